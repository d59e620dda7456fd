//! What fuzzers ask of everything in rsrun that reads bytes of others: which properties hold for any input at all.
//!
//! One function for each target, without a fuzzer in it: `fuzz_targets/` gives them to libFuzzer, `tests/` runs
//! them over every seed and every input that once broke something, natively and without root.
//!
//! | target | reads |
//! |---|---|
//! | `spec` | config.json → plan → frozen plan, its hooks, an exec of its process |
//! | `process`, `resources` | the documents of `exec`, Exec, `update` and Update |
//! | `seccomp` | a profile → its program |
//! | `record` | state.json |
//! | `frames` | a connection of ttrpc, as the shim serves it |
//! | `requests` | one message of the Task service → what the sandbox is asked |
//! | `names` | ids and stdio URIs |
//! | `options` | the shim's stdin and arguments, runtime options of every type |
//! | `mounts` | option lists of mounts, in a Create and in config.json |

pub mod budget;
pub mod frames;
pub mod ground;
pub mod json;
pub mod mounts;
pub mod names;
pub mod options;
pub mod process;
pub mod record;
pub mod requests;
pub mod resources;
pub mod seccomp;
pub mod spec;

use std::path::Path;
use std::process::ExitCode;

/// Whether the properties hold for an input; panics if not.
pub type Check = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Check); 10] = [
    ("spec", spec::check),
    ("process", process::check),
    ("resources", resources::check),
    ("seccomp", seccomp::check),
    ("record", record::check),
    ("frames", frames::check),
    ("requests", requests::check),
    ("names", names::check),
    ("options", options::check),
    ("mounts", mounts::check),
];

/// Runs one input within the budget of memory that every target has.
pub fn run(check: Check, data: &[u8]) {
    budget::within(data.len(), || check(data));
}

/// What a target does that was built without a fuzzer: the files that it is given, one after the other.
pub fn replay(check: Check) -> ExitCode {
    for path in std::env::args_os().skip(1) {
        let path = Path::new(&path);
        match std::fs::read(path) {
            Ok(data) => run(check, &data),
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
        println!("{}: holds", path.display());
    }
    ExitCode::SUCCESS
}

/// The program of a target. `json` changes documents as trees: what no JSON reader takes is tried often enough.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::run($crate::$name::check, data));

        #[cfg(not(fuzzing))]
        fn main() -> std::process::ExitCode {
            $crate::replay($crate::$name::check)
        }
    };
    ($name:ident, json) => {
        $crate::target!($name);

        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
            match $crate::json::mutated(&data[..size], max, seed) {
                Some(changed) => {
                    data[..changed.len()].copy_from_slice(&changed);
                    changed.len()
                }
                None => libfuzzer_sys::fuzzer_mutate(data, size, max),
            }
        });
    };
}
