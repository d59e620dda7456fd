//! Does the kernel do with cgroups what `rsrun_core::cgroup` takes it for?
//!
//! Without any container: cgroups with plain processes in them. What needs controllers skips itself where the
//! unified tree has none.

mod devices;
mod life;
mod limits;
mod members;
mod scene;
mod stats;

use std::process::ExitCode;

use libtest_mimic::Trial;
use rsrun_tests::ground;
use rsrun_tests::suite::{self, Case};

use scene::Scene;

fn main() -> ExitCode {
    ground::on_private_ground(|| suite::conclude(trials()))
}

fn trials() -> Vec<Trial> {
    let groups: [(&str, Vec<Case<Scene>>); 5] = [
        ("life", life::cases()),
        ("members", members::cases()),
        ("devices", devices::cases()),
        ("limits", limits::cases()),
        ("stats", stats::cases()),
    ];
    groups
        .into_iter()
        .flat_map(|(group, cases)| {
            cases
                .into_iter()
                .map(move |case| suite::trial(group, case, Scene::new))
        })
        .collect()
}
