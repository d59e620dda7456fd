//! What does the runtime say to bundles and command lines that are broken, and does the host stay as it was?
//!
//! Every error has to name its place: the JSON pointer, the option or the path. runc names few of them, so with runc
//! under test a case shows only that the host stays as it was.
mod command_lines;
mod files;
mod values;

use rsrun_tests::cli::ground::Ground;
use rsrun_tests::cli::runtime::Output;
use rsrun_tests::cli::suite::{Outcome, Skip, Suite};
use std::time::Duration;

fn main() -> std::process::ExitCode {
    let mut suite = Suite::default();
    files::cases(&mut suite);
    values::cases(&mut suite);
    command_lines::cases(&mut suite);
    suite.run()
}

/// The call was refused soon, in one line that names the place.
#[track_caller]
fn names(g: &Ground, out: Output, place: &str) -> Outcome {
    assert!(out.took < Duration::from_secs(10), "took {:?}", out.took);
    if g.runtime.runc.is_some() {
        return match out.code {
            0 => Err(Skip("runc accepts this".into())),
            _ => Ok(()),
        };
    }
    let said = out.refused();
    assert!(said.contains(place), "{place} is not named: {said}");
    assert!(said.len() < 4096, "{} bytes of words", said.len());
    Ok(())
}
