//! Which schedules are there, and what does each show?
//!
//! A schedule is one swap of one name before one call. The calls come from a course that nobody disturbs; at each of
//! them it is noted which names are there to be swapped. Of these a part is taken: the calls that are about the swapped
//! name first, and every kind of swap in turn. `RSRUN_SUITE_SCOPE=all` takes every one, which is a matter of hours.
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::canary::Canary;
use rsrun_tests::cli::ground::Ground;
use rsrun_tests::containment::guest;
use rsrun_tests::stepping::{End, Place};

use crate::adversary::{SWAPS, Swap};
use crate::course::{self, is_program};
use crate::judge::{self, Host, Inside};
use crate::scenes::Scene;
use crate::stage::Stage;

/// How many were run by all cases, and by how many cases.
pub static RUN: AtomicUsize = AtomicUsize::new(0);
pub static CASES: AtomicUsize = AtomicUsize::new(0);

/// The most of one scene and name.
const PART: usize = 22;

/// The same where the processor is emulated and each takes half a second.
const PART_EMULATED: usize = 4;

/// How many of one scene and name are taken; `None` for all.
pub fn most() -> Option<usize> {
    match std::env::var("RSRUN_SUITE_SCOPE").as_deref() {
        Ok("all") => None,
        Ok("controllers") => Some(PART_EMULATED),
        _ => Some(PART),
    }
}

/// One call of the undisturbed course.
struct Call {
    place: Place,
    nr: i64,
    /// Its path, or that of the call before where it acts on a descriptor.
    path: String,
    /// What the name that is swapped is at that moment.
    present: Present,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Present {
    /// Neither it nor its parent.
    Nowhere,
    /// The parent alone.
    Missing,
    /// A link.
    Link,
    Something,
}

impl Present {
    fn at(path: &Path) -> Self {
        match path.symlink_metadata() {
            Ok(meta) if meta.is_symlink() => Self::Link,
            Ok(_) => Self::Something,
            Err(_) if path.parent().is_some_and(Path::exists) => Self::Missing,
            Err(_) => Self::Nowhere,
        }
    }

    fn allows(self, swap: Swap) -> bool {
        match self {
            _ if swap == Swap::LinkToSetting && !guest::is_here() => false,
            Self::Nowhere => false,
            Self::Missing | Self::Link => swap != Swap::Bind,
            Self::Something => true,
        }
    }
}

/// Runs every schedule of `scene` in which `name` is swapped; panics at the first that shows anything.
pub fn run(ground: &Ground, scene: &Scene, name: &str) {
    let canary = Canary::make(ground.work.join("canary")).expect("a canary");
    let mut stage = Stage::new(ground, scene.entries).expect("a stage");
    (scene.spec)(&mut stage);
    stage.lay().expect("the first layout");
    stage.bundle.write();
    if scene.verb.is_exec() {
        stage.bundle.hold();
    }
    let mut case = Case {
        ground,
        scene,
        name,
        stage,
        canary,
        inside: Inside::default(),
    };
    let began = Instant::now();
    let calls = case.undisturbed();
    let chosen = chosen(&calls, name);
    let mut tally = Tally::default();
    for (call, swap) in &chosen {
        case.schedule(call, *swap, &mut tally);
    }
    let took = began.elapsed();
    RUN.fetch_add(tally.run, Ordering::Relaxed);
    CASES.fetch_add(1, Ordering::Relaxed);
    println!(
        "{} schedules of {} calls in {:.1} s: {} started, {} refused, {} not met",
        tally.run,
        calls.len(),
        took.as_secs_f64(),
        tally.started,
        tally.refused,
        tally.not_met
    );
    // A call that a disturbed course does not come to is no schedule; mostly they are met, or the numbering is wrong.
    assert!(
        tally.not_met * 10 <= chosen.len(),
        "{} of {} calls were not met",
        tally.not_met,
        chosen.len()
    );
    assert!(tally.run > 0, "no schedule was run");
}

#[derive(Default)]
struct Tally {
    run: usize,
    started: usize,
    refused: usize,
    not_met: usize,
}

struct Case<'g> {
    ground: &'g Ground,
    scene: &'g Scene,
    name: &'g str,
    // Before the bundle's place goes, see `Stage`.
    stage: Stage<'g>,
    canary: Canary,
    inside: Inside,
}

impl Case<'_> {
    /// The calls of a course without a swap, and the mounts of its container.
    fn undisturbed(&mut self) -> Vec<Call> {
        let target = self.stage.target(self.name);
        let (mut calls, mut last, mut mounts) = (Vec::<Call>::new(), String::new(), Vec::new());
        let host = Host::look(&self.canary);
        let outcome = course::follow(&self.stage, self.scene.verb, &mut |stop| {
            if is_program(stop) {
                mounts = judge::mounts_of(stop.tid, &self.stage);
                return;
            }
            let path = stop.path();
            if !path.is_empty() {
                last = path;
            }
            let present = Present::at(&target.path);
            calls.push(Call {
                place: stop.place,
                nr: stop.nr,
                path: last.clone(),
                present,
            });
        });
        let outcome = outcome.expect("the undisturbed course");
        assert_eq!(outcome.end, End::Code(0), "undisturbed: {}", outcome.said);
        assert!(
            !mounts.is_empty(),
            "the program did not run: {}",
            outcome.said
        );
        let changes = host.changes(&self.canary);
        assert!(changes.is_empty(), "undisturbed, and still: {changes:?}");
        self.inside = Inside {
            mounts,
            named: self.scene.mounts,
        };
        if !self.scene.verb.is_exec() {
            self.stage.lay().expect("a layout");
        }
        calls
    }

    fn schedule(&self, call: &Call, swap: Swap, tally: &mut Tally) {
        let (stage, canary) = (&self.stage, &self.canary);
        let target = stage.target(self.name);
        let host = Host::look(canary);
        let (mut undo, mut wrongs, mut started) = (None, Vec::new(), false);
        let outcome = course::follow(stage, self.scene.verb, &mut |stop| {
            if is_program(stop) {
                started = true;
                wrongs = self.inside.wrongs(stop.tid, stage, canary);
            } else if stop.place == call.place && undo.is_none() {
                undo = swap
                    .perform(&target, canary)
                    .unwrap_or_else(|e| panic!("{swap:?}: {e}"));
            }
        });
        let outcome = outcome.expect("a course");
        let met = undo.is_some();
        if let Some(undo) = undo {
            // What was made in its place meanwhile may be in the way; a root file system is made anew anyway.
            let undone = undo.perform();
            assert!(
                undone.is_ok() || !self.scene.verb.is_exec(),
                "{swap:?}: {undone:?}"
            );
        }
        wrongs.extend(host.changes(canary));
        if self.scene.verb.is_exec() {
            let _ = std::fs::remove_dir_all(&target.aside);
        } else {
            wrongs.extend(judge::leftovers(self.ground, stage));
            stage.lay().expect("a layout");
        }
        match outcome.end {
            End::Hangs => wrongs.push("it hangs".into()),
            End::Code(code) if !started && code == 0 => {
                wrongs.push("it did not run and nothing failed".into())
            }
            End::Code(_) => {}
        }
        if !started && outcome.said.trim().is_empty() && outcome.end != End::Hangs {
            wrongs.push("it failed without a word".into());
        }
        if outcome.said.contains("panicked at") {
            wrongs.push(format!("a panic: {}", outcome.said));
        }
        assert!(
            wrongs.is_empty(),
            "{swap:?} of {} before call {:?} (number {}, {:?}): {wrongs:#?}; {:?}, it said {:?}",
            self.name,
            call.place,
            call.nr,
            call.path,
            outcome.end,
            outcome.said
        );
        match (met, started) {
            (false, _) => tally.not_met += 1,
            (true, true) => (tally.run, tally.started) = (tally.run + 1, tally.started + 1),
            (true, false) => (tally.run, tally.refused) = (tally.run + 1, tally.refused + 1),
        }
    }
}

/// What is run of all calls and swaps.
fn chosen<'c>(calls: &'c [Call], name: &str) -> Vec<(&'c Call, Swap)> {
    let all = |calls: Vec<&'c Call>| -> Vec<(&'c Call, Swap)> {
        let each = |call: &'c Call| {
            SWAPS
                .into_iter()
                .filter(|s| call.present.allows(*s))
                .map(move |s| (call, s))
        };
        calls.into_iter().flat_map(each).collect()
    };
    let Some(most) = most() else {
        return all(calls.iter().collect());
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    let (near, far): (Vec<&Call>, Vec<&Call>) = calls
        .iter()
        .partition(|call| call.path.split('/').any(|part| part == last));
    let mut chosen = spread(all(near), most * 2 / 3);
    chosen.extend(spread(all(far), most - chosen.len()));
    chosen
}

/// So many of a list, from all over it. The step has no common part with the number of kinds, so each comes in turn.
fn spread<T>(list: Vec<T>, most: usize) -> Vec<T> {
    let mut step = list.len().div_ceil(most.max(1)).max(1);
    if step.is_multiple_of(SWAPS.len()) {
        step += 1;
    }
    list.into_iter().step_by(step).take(most).collect()
}
