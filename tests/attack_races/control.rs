//! Would it be seen? The same adversary against a program that looks first and goes by paths afterwards.
use std::process::{Command, Stdio};

use rsrun_tests::cli::ground::Ground;
use rsrun_tests::cli::suite::Suite;
use rsrun_tests::pace::patient;
use rsrun_tests::stepping::{Course, Place, Stop, Verdict, WaitFor};

use crate::adversary::Swap;
use crate::canary::Canary;
use crate::course::is_program;
use crate::judge::Host;
use crate::stage::{Entry, Stage};

/// What is swapped, and what of the host has to be seen changed.
const HITS: [(&str, Swap, &str); 5] = [
    ("rootfs/dev", Swap::LinkToDirectory, "mounts of the host"),
    ("rootfs/dev", Swap::LinkUpwards, "mounts of the host"),
    ("rootfs/dev", Swap::LinkThroughProc, "mounts of the host"),
    ("rootfs/etc/passwd", Swap::LinkToFile, "the canary"),
    ("rootfs/etc", Swap::LinkToDirectory, "the canary"),
];

pub(crate) fn cases(suite: &mut Suite) {
    for (name, swap, place) in HITS {
        let shown = format!("{name}_{swap:?}").replace('/', "_").to_lowercase();
        suite.case(
            format!("control::a_program_that_goes_by_paths_is_hit_by_{shown}"),
            move |ground| {
                let (schedules, hits) = hits(ground, name, swap, place);
                println!(
                    "{schedules} schedules, {} hits: {:?}",
                    hits.len(),
                    hits.first()
                );
                assert!(!hits.is_empty(), "the adversary or the judge sees nothing");
                Ok(())
            },
        );
    }
}

/// Every schedule of one swap, and what was seen of `place`.
fn hits(ground: &Ground, name: &str, swap: Swap, place: &str) -> (usize, Vec<String>) {
    let stage = Stage::new(ground, &[Entry::Directory("rootfs/dev/pts")]).expect("a stage");
    let mut places = Vec::new();
    let canary = Canary::make(ground.work.join("canary")).expect("a canary");
    stage.lay().expect("a layout");
    let host = Host::look(&canary);
    follow(&stage, &mut |stop| places.push(stop.place));
    assert!(
        host.changes(&canary).is_empty(),
        "{:?}",
        host.changes(&canary)
    );
    drop(canary);
    let seen = places
        .iter()
        .filter_map(|at| one(ground, &stage, name, swap, *at));
    let seen: Vec<Vec<String>> = seen.collect();
    let about = |change: &String| change.starts_with(place);
    (
        seen.len(),
        seen.into_iter().flatten().filter(about).collect(),
    )
}

/// What is different on the host, looked at while the naive program has its mount, and after it; `None` where the
/// swap could not be done.
fn one(
    ground: &Ground,
    stage: &Stage<'_>,
    name: &str,
    swap: Swap,
    at: Place,
) -> Option<Vec<String>> {
    // A new one for each: the last one may have been hit.
    let canary = Canary::make(ground.work.join("canary")).expect("a canary");
    stage.lay().expect("a layout");
    let (host, target) = (Host::look(&canary), stage.target(name));
    let (mut undo, mut changes) = (None, Vec::new());
    follow(stage, &mut |stop| {
        if is_program(stop) {
            let mounted = host.changes(&canary);
            changes.extend(
                mounted
                    .into_iter()
                    .filter(|change| change.contains(&canary.at.display().to_string())),
            );
        } else if stop.place == at && undo.is_none() {
            undo = swap.perform(&target, &canary).expect("a swap");
        }
    });
    undo?.perform().ok();
    // It takes its own mount away by path too, and so from elsewhere.
    for point in [stage.at("rootfs/dev/pts"), canary.directory().join("pts")] {
        while nix::mount::umount2(&point, nix::mount::MntFlags::MNT_DETACH).is_ok() {}
    }
    changes.extend(host.changes(&canary));
    Some(changes)
}

fn follow(stage: &Stage<'_>, at_stop: &mut dyn FnMut(&Stop)) {
    let mut command = Command::new(stage.probe_of_the_host());
    command.arg("naive").arg(stage.at("rootfs"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let limit = patient(std::time::Duration::from_secs(10));
    Course::default()
        .run(command, limit, WaitFor::Everything, &mut |stop| {
            at_stop(stop);
            Verdict::LetGo
        })
        .expect("a course");
}
