//! See `rsrun_fuzz::process`.
#![cfg_attr(fuzzing, no_main)]

rsrun_fuzz::target!(process, json);
