//! See `rsrun_fuzz::names`.
#![cfg_attr(fuzzing, no_main)]

rsrun_fuzz::target!(names);
