//! See `rsrun_fuzz::seccomp`.
#![cfg_attr(fuzzing, no_main)]

rsrun_fuzz::target!(seccomp, json);
