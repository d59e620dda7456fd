//! What does rsrun cost, beside the Go shim with runc and crun and beside the kernel alone?
//!
//! ```text
//! rsrun-bench lives    every step of a container's life           make bench
//! rsrun-bench cli      the command lines, by hyperfine            make bench-cli
//! rsrun-bench scale    with 1 to 1,000 containers, and a huge spec  make bench-scale
//! rsrun-bench output   streams by bytes and by CPU; idleness      make bench-output
//! ```
//!
//! All columns of a table are measured in one run, so that what else the machine does falls on all of them.

mod chart;
mod cli;
mod columns;
mod idle;
mod life;
mod lines;
mod memory;
mod output;
mod report;
mod scale;
mod table;

use std::process::ExitCode;

use rsrun_tests::ground;
use rsrun_tests::suite::{Check, Stop, fail};

fn main() -> ExitCode {
    ground::on_private_ground(|| match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Fail(text) | Stop::Skip(text)) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    })
}

fn measure() -> Check {
    if !ground::privileged() {
        return fail("root is needed: containers are run");
    }
    let what = std::env::args().nth(1).unwrap_or_default();
    let report = match what.as_str() {
        "" | "lives" => life::measure()?,
        "cli" => cli::measure()?,
        "scale" => scale::measure()?,
        "output" => output::measure()?,
        other => return fail(format!("no measurement is called {other:?}")),
    };
    report.publish()
}

/// A number from the environment.
fn number(name: &str, otherwise: usize) -> Check<usize> {
    match std::env::var(name) {
        Ok(text) => match text.parse() {
            Ok(number) => Ok(number),
            Err(_) => fail(format!("{name}={text} is no number")),
        },
        Err(_) => Ok(otherwise),
    }
}
