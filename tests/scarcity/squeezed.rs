//! Something runs out before a step, and is there again after it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;
use rsrun_tests::by_hand::ByHand;
use rsrun_tests::cases;
use rsrun_tests::life::{Life, STEPS, Went, has_words};
use rsrun_tests::pace;
use rsrun_tests::suite::{Case, Check, Stop, fail};

/// Where the shim keeps its state.
const STATE: &str = "/run/containerd/rsrun";

/// What runs out natively.
pub fn cases() -> Vec<Case<ByHand>> {
    cases![600 s: no_space, no_inodes, no_descriptors]
}

fn no_space(s: &ByHand) -> Check {
    let places = small_disks(s)?;
    sweep(s, &[0, 1, 2, 3, 4, 6, 8], |_, left| {
        full(&places, left, u64::MAX)
    })
}

fn no_inodes(s: &ByHand) -> Check {
    let places = small_disks(s)?;
    sweep(s, &[0, 1, 2, 3, 4, 6, 8], |_, left| {
        full(&places, u64::MAX, left)
    })
}

fn no_descriptors(s: &ByHand) -> Check {
    let levels = [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 20, 24,
    ];
    sweep(s, &levels, |shim, left| {
        let fds = fs::read_dir(format!("/proc/{shim}/fd"))?.flatten();
        let numbers = fds.filter_map(|fd| fd.file_name().to_str()?.parse::<u64>().ok());
        let highest = numbers.max().unwrap_or_default();
        limit_descriptors(shim, &format!("{}:", highest + 1 + left))?;
        Ok(Box::new(move || limit_descriptors(shim, "1024:")))
    })
}

fn limit_descriptors(pid: Pid, limit: &str) -> Check {
    let mut prlimit = Command::new("prlimit");
    prlimit
        .arg(format!("--pid={pid}"))
        .arg(format!("--nofile={limit}"));
    match prlimit.status()?.success() {
        true => Ok(()),
        false => fail(format!("{prlimit:?}")),
    }
}

/// Ends a squeeze.
pub type Release = Box<dyn FnOnce() -> Check>;

/// Before each step, at each level, `squeeze` takes away what it is about; after the step it is released.
pub fn sweep(s: &ByHand, levels: &[u64], squeeze: impl Fn(Pid, u64) -> Check<Release>) -> Check {
    let (mut refused, mut findings) = (0, Vec::new());
    let levels = levels
        .iter()
        .step_by(levels.len().div_ceil(pace::fewer(levels.len())));
    for (round, level) in levels.enumerate() {
        for step in STEPS {
            let life = Life::prepare(s, format!("{}-{step}-{round}", s.ctr_ns()))?;
            match squeezed(life, step, |shim| squeeze(shim, *level)) {
                Ok(was_refused) => refused += usize::from(was_refused),
                Err(Stop::Fail(words)) => findings.push(format!("{step}, {level} left: {words}")),
                Err(skipped) => return Err(skipped),
            }
        }
    }
    println!("{}: {refused} steps refused", s.ctr_ns());
    if refused == 0 {
        findings.push("nothing was ever refused: nothing ran out".into());
    }
    match findings.is_empty() {
        true => Ok(()),
        false => fail(findings.join("\n")),
    }
}

/// One life with a squeeze around one step; whether that was refused.
fn squeezed(life: Life<'_>, at: &str, squeeze: impl Fn(Pid) -> Check<Release>) -> Check<bool> {
    let started = life.s.start(&life.id)?;
    let (task, shim) = life.connect(&started)?;
    let went = (|| {
        let mut refused = false;
        for name in STEPS {
            if name != at {
                well(name, life.step(name, &task)?, "everything")?;
                continue;
            }
            let release = squeeze(shim)?;
            let went = life.step(name, &task);
            release()?;
            let words = match went? {
                Went::Well => continue,
                Went::Refused(words) => words,
                Went::Closed => return fail(format!("{name}: the connection was closed")),
            };
            has_words(&words)?;
            refused = true;
            // An init that could not be started is gone. Anything else can be asked for once more.
            if name == "Start" {
                break;
            }
            let _ = task.delete("added");
            well(
                name,
                life.step(name, &task)?,
                &format!("everything after {words:?}"),
            )?;
        }
        Ok(refused)
    })();
    let gave_up = life.give_up(&started, shim);
    let panic = life
        .log()
        .find("panicked at")
        .map(|at| life.log().split_off(at));
    let over = life.over();
    let refused = went?;
    gave_up?;
    over?;
    match panic {
        Some(words) => fail(words),
        None => Ok(refused),
    }
}

fn well(name: &str, went: Went, there: &str) -> Check {
    match went {
        Went::Well => Ok(()),
        other => fail(format!("{name} with {there} there: {other:?}")),
    }
}

/// The bundles, the outputs and the state on file systems of a few pages and inodes.
fn small_disks(s: &ByHand) -> Check<[PathBuf; 2]> {
    let places = [s.directory().to_owned(), Path::new(STATE).join(s.ctr_ns())];
    for place in &places {
        fs::create_dir_all(place)?;
        let size = Some("size=1m,nr_inodes=128,mode=0700");
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), size)?;
    }
    Ok(places)
}

/// Leaves so many pages and inodes.
fn full(places: &[PathBuf; 2], pages: u64, inodes: u64) -> Check<Release> {
    let ballast: Vec<PathBuf> = places.iter().map(|p| p.join("ballast")).collect();
    for directory in &ballast {
        fs::create_dir_all(directory)?;
        let free = statvfs(directory)?;
        let file = File::create(directory.join("pages"))?;
        let taken = free.blocks_available().saturating_sub(pages);
        if taken > 0 && pages != u64::MAX {
            nix::fcntl::posix_fallocate(&file, 0, (taken * free.fragment_size()).try_into()?)?;
        }
        let free = statvfs(directory)?.files_free();
        for n in inodes.min(free)..free {
            File::create(directory.join(n.to_string()))?;
        }
    }
    Ok(Box::new(move || {
        for directory in ballast {
            fs::remove_dir_all(directory)?;
        }
        Ok(())
    }))
}
