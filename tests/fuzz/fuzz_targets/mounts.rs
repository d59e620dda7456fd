//! See `rsrun_fuzz::mounts`.
#![cfg_attr(fuzzing, no_main)]

rsrun_fuzz::target!(mounts);
