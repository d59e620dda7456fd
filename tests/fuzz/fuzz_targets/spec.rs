//! See `rsrun_fuzz::spec`.
#![cfg_attr(fuzzing, no_main)]

rsrun_fuzz::target!(spec, json);
