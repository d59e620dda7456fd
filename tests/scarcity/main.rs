//! Does a container live, or is refused in words, when there is little left of something?
//!
//! Disk, descriptors, processes and memory run out before each step of a life and are there again after it; then the
//! same step has to go well. Time jumps. containerd says nothing for a minute. What needs the controllers or would
//! change the machine (its clock) runs in the guest only.

mod clock;
mod limits;
mod silence;
mod squeezed;

use std::process::ExitCode;

use libtest_mimic::Trial;
use rsrun_tests::by_hand::{ByHand, Manner};
use rsrun_tests::ground;
use rsrun_tests::places::Places;
use rsrun_tests::suite::{self, Case, Check, skip};

fn main() -> ExitCode {
    ground::on_private_ground(|| suite::conclude(trials()))
}

fn trials() -> Vec<Trial> {
    let groups: [(&str, Vec<Case<ByHand>>); 4] = [
        ("squeezed", squeezed::cases()),
        ("limits", limits::cases()),
        ("clock", clock::cases()),
        ("silence", silence::cases()),
    ];
    let each = |(group, cases): (&'static str, Vec<Case<ByHand>>)| {
        let trial = move |case: Case<ByHand>| suite::trial(group, case, move || world(case.name));
        cases.into_iter().map(trial)
    };
    groups.into_iter().flat_map(each).collect()
}

fn world(name: &'static str) -> Check<ByHand> {
    if !ground::privileged() {
        return skip("needs root");
    }
    ByHand::new(&Places::find(), Manner::Bootstrap, name)
}
