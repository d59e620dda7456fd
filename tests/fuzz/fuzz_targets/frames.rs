//! See `rsrun_fuzz::frames`.
#![cfg_attr(fuzzing, no_main)]

rsrun_fuzz::target!(frames);
