//! Does the shim keep its contract? It is driven over ttrpc by hand, without containerd.
//!
//! `RSRUN_TEST_RUNTIME=io.containerd.runc.v2` runs the same cases against the Go shim.

mod bad_input;
mod binary;
mod calls;
mod ending;
mod events;
mod frames;
mod honesty;
mod idle;
mod isolation;
mod lives;
mod order;
mod output;
mod pid_reuse;
mod soak;
mod states;
mod stdio;
mod waits;

use std::process::ExitCode;

use libtest_mimic::Trial;
use rsrun_tests::by_hand::{ByHand, Manner};
use rsrun_tests::ground;
use rsrun_tests::pace;
use rsrun_tests::places::Places;
use rsrun_tests::suite::{self, Case, skip};

fn main() -> ExitCode {
    ground::on_private_ground(|| suite::conclude(trials()))
}

fn trials() -> Vec<Trial> {
    let mut trials = order::cases();
    for (manner, group) in [(Manner::Legacy, "legacy"), (Manner::Bootstrap, "bootstrap")] {
        let cases = [
            states::cases(),
            calls::cases(),
            binary::cases(),
            ending::cases(),
            waits::cases(),
            stdio::cases(),
            frames::cases(),
            bad_input::cases(),
            isolation::cases(),
            honesty::cases(),
        ]
        .concat();
        if manner == Manner::Legacy && !pace::is_thorough() {
            trials.push(suite::skipped(
                group,
                "run where the processor is real; slow here",
            ));
            continue;
        }
        trials.extend(cases.into_iter().map(|case| trial(group, manner, case)));
    }
    // What takes long and does not depend on how the shim was started.
    let once = [
        idle::cases(),
        events::cases(),
        lives::cases(),
        output::cases(),
        soak::cases(),
        pid_reuse::cases(),
    ]
    .concat();
    trials.extend(
        once.into_iter()
            .map(|case| trial("long", Manner::Bootstrap, case)),
    );
    trials
}

fn trial(group: &str, manner: Manner, case: Case<ByHand>) -> Trial {
    suite::trial(group, case, move || {
        if !ground::privileged() {
            return skip("needs root");
        }
        ByHand::new(&Places::find(), manner, case.name)
    })
}
