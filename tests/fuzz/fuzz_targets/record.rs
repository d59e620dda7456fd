//! See `rsrun_fuzz::record`.
#![cfg_attr(fuzzing, no_main)]

rsrun_fuzz::target!(record, json);
