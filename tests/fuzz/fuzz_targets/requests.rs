//! See `rsrun_fuzz::requests`.
#![cfg_attr(fuzzing, no_main)]

rsrun_fuzz::target!(requests);
