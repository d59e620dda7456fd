//! See `rsrun_fuzz::options`.
#![cfg_attr(fuzzing, no_main)]

rsrun_fuzz::target!(options);
