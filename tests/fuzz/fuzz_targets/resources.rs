//! See `rsrun_fuzz::resources`.
#![cfg_attr(fuzzing, no_main)]

rsrun_fuzz::target!(resources, json);
