//! Is this the throw-away machine of `hack/vm/run`? Attacks and faults run nowhere else.

use std::process::ExitCode;

/// The word that `hack/vm/run` puts on its kernel's command line.
const MARK: &str = "rsrun.guest=1";

/// Whether this is the guest.
pub fn is_here() -> bool {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    line.split_whitespace().any(|word| word == MARK)
}

/// Runs `suite` in the guest and refuses anywhere else; listing is harmless everywhere.
pub fn only_here(suite: impl FnOnce() -> ExitCode) -> ExitCode {
    if is_here() || std::env::args().any(|a| a == "--list") {
        return suite();
    }
    eprintln!("this suite attacks the machine that it runs on: run it by hack/run-suites.sh vm");
    ExitCode::from(2)
}
