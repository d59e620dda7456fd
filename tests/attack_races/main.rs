//! Can a hostile process that has the root file system or a volume of a container lead the runtime out of it, by a
//! swap at any moment of create or exec?
//!
//! Not by chance: the runtime is stopped before each of its calls that take a path, one thing is swapped, and it goes
//! on. So every schedule with one swap can be tried, one after the other.
mod adversary;
mod canary;
mod control;
mod course;
mod judge;
mod scenes;
mod schedules;
mod stage;

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use rsrun_tests::cli::suite::{Skip, Suite};

/// What is promised, see SPECIFICATION.md.
const AT_LEAST: usize = 1_200;

/// Of each case where only a few are taken (the emulated machine): not all of them meet their call.
const AT_LEAST_OF_A_CASE: usize = 3;

fn main() -> ExitCode {
    let mut suite = Suite::default();
    control::cases(&mut suite);
    let mut count = 0;
    for scene in &scenes::SCENES {
        for name in scene.targets {
            count += 1;
            suite.case(
                format!(
                    "{}::{}_is_swapped",
                    scene.name,
                    name.replace(['/', '.'], "_")
                ),
                move |ground| {
                    schedules::run(ground, scene, name);
                    Ok(())
                },
            );
        }
    }
    suite.case(
        "no_schedule_lets_anything_out_or_in_and_all_that_are_promised_were_run",
        move |_| {
            let (run, cases) = (
                schedules::RUN.load(Ordering::Relaxed),
                schedules::CASES.load(Ordering::Relaxed),
            );
            println!("{run} schedules in {cases} cases");
            if cases < count {
                return Err(Skip(format!(
                    "only {cases} of {count} cases have passed or were asked for"
                )));
            }
            let promised = match schedules::most() {
                Some(most) if most * count < AT_LEAST => AT_LEAST_OF_A_CASE * count,
                _ => AT_LEAST,
            };
            assert!(run >= promised, "{run} schedules, {promised} are promised");
            Ok(())
        },
    );
    // Harmless wherever it runs: its links lead to a canary of its own, and in the guest alone to a setting.
    suite.run()
}
