//! Is anything lost or left when a program of ours is killed, or the kernel refuses it something, at any of its
//! system calls?
//!
//! A course is followed once to see its calls. Then it is followed again for each of them: up to that call, where the
//! program is killed (SIGKILL), or where the call fails with an errno that it may fail with. After a kill a `delete` has to leave
//! nothing. After an errno there is an error in words and nothing left, or what was answered is true.
//!
//! ```text
//! RSRUN_FAULTS=1               every call and errno; else one of a number, evenly
//! RSRUN_FAULT="Create 0 17"    only this step, thread and call
//! ```

mod calls;
mod command_line;
mod follower;
mod points;
mod shim;

use std::process::ExitCode;

use libtest_mimic::Trial;
use rsrun_tests::ground;
use rsrun_tests::suite::{self, Case, Check, World, skip};

fn main() -> ExitCode {
    ground::on_private_ground(|| {
        let code = suite::conclude(trials());
        match points::fewer_than_promised() {
            Some(words) => {
                println!("{words}");
                ExitCode::FAILURE
            }
            None => code,
        }
    })
}

fn trials() -> Vec<Trial> {
    let shims = shim::cases().into_iter();
    let lines = command_line::cases().into_iter();
    shims
        .map(|case| trial("shim", case, shim::world(case.name)))
        .chain(lines.map(|case| trial("command_line", case, command_line::world(case.name))))
        .collect()
}

fn trial<W: World>(
    group: &str,
    case: Case<W>,
    make: impl FnOnce() -> Check<W> + Send + 'static,
) -> Trial {
    suite::trial(group, case, move || {
        if !ground::privileged() {
            return skip("needs root");
        }
        make()
    })
}
