//! What is measured of one container: every step of its life, the memory of what serves it, and the command line.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rsrun_tests::by_hand::ByHand;
use rsrun_tests::command;
use rsrun_tests::suite::{Check, fail};
use rsrun_tests::task::{INIT, Streams, Task};
use serde_json::{Value, json};

use crate::Column;
use crate::table::Row;

/// What one life gave, each row in its own unit.
pub type Samples = BTreeMap<Row, f64>;

/// One life of each kind in this column.
pub fn live(column: &Column, round: usize, samples: &mut Samples) -> Check {
    long_life(&column.world, &format!("long{round}"), samples)?;
    short_life(&column.world, &format!("short{round}"), samples)?;
    command_line(column, &format!("cli{round}"), samples)
}

/// A container that stays until it is killed; execs and memory are measured in it.
fn long_life(world: &ByHand, id: &str, samples: &mut Samples) -> Check {
    let quiet = Streams::default();
    world.prepare(id, &usual(world, id, &["/bin/sleep", "1000"]))?;
    let started = timed(samples, Row::StartShim, || world.start(id))?;
    let task = world.task(&started, id)?;
    timed(samples, Row::Create, || {
        Ok(task.create(&world.rootfs(), &quiet)?)
    })?;
    timed(samples, Row::Start, || Ok(task.start(INIT)?))?;

    let (shim, _) = task.connect()?;
    let before = open_files(shim)?;
    for n in 0..20 {
        let exec = format!("exec{n}");
        let begun = Instant::now();
        task.exec(&exec, &["/bin/true"], &quiet)?;
        task.start(&exec)?;
        ended_well(task.wait(&exec)?.status)?;
        task.delete(&exec)?;
        // One of twenty is told: the first ones warm up.
        if n == 10 {
            samples.insert(Row::Exec, milliseconds(begun));
        }
    }
    samples.insert(Row::OpenFiles, open_files(shim)? - before);
    memory(shim, samples)?;

    timed(samples, Row::Kill, || {
        task.kill(INIT, 9)?;
        Ok(task.wait(INIT)?)
    })?;
    timed(samples, Row::Delete, || Ok(task.delete(INIT)?))?;
    gone(&task)
}

/// From nothing to nothing: a container that ends by itself.
fn short_life(world: &ByHand, id: &str, samples: &mut Samples) -> Check {
    world.prepare(id, &usual(world, id, &["/bin/true"]))?;
    let begun = Instant::now();
    let started = world.start(id)?;
    let task = world.task(&started, id)?;
    task.create(&world.rootfs(), &Streams::default())?;
    task.start(INIT)?;
    ended_well(task.wait(INIT)?.status)?;
    task.delete(INIT)?;
    samples.insert(Row::WholeLife, milliseconds(begun));
    gone(&task)
}

/// The runtime's own `run`, without a shim.
fn command_line(column: &Column, id: &str, samples: &mut Samples) -> Check {
    let bundle = column.world.directory().join(id);
    fs::create_dir_all(&bundle)?;
    let mut spec = usual(&column.world, id, &["/bin/true"]);
    spec["root"]["path"] = json!(column.world.places.rootfs);
    spec["root"]["readonly"] = true.into();
    fs::write(bundle.join("config.json"), spec.to_string())?;
    let mut run = Command::new(&column.cli);
    run.arg("--root").arg(column.world.directory().join("cli"));
    run.args(["run", "--bundle"]).arg(&bundle).arg(id);
    timed(samples, Row::CommandLine, || {
        command::run(&mut run, Duration::from_secs(20))?.ok()
    })?;
    fs::remove_dir_all(&bundle)?;
    Ok(())
}

/// The spec of a usual container: six namespaces, seven mounts, four masked and five read-only paths. No limits, so
/// that it runs on a host of either cgroup layout.
fn usual(world: &ByHand, id: &str, args: &[&str]) -> Value {
    let mut spec = world.spec(id, args);
    let more = [
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}),
    ];
    if let Some(mounts) = spec["mounts"].as_array_mut() {
        mounts.extend(more);
    }
    if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
        namespaces.push(json!({"type": "cgroup"}));
    }
    spec["linux"]["maskedPaths"] = json!([
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/sys/firmware"
    ]);
    spec["linux"]["readonlyPaths"] = json!([
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger"
    ]);
    spec
}

fn timed<T>(samples: &mut Samples, row: Row, step: impl FnOnce() -> Check<T>) -> Check<T> {
    let begun = Instant::now();
    let result = step()?;
    samples.insert(row, milliseconds(begun));
    Ok(result)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn ended_well(status: u32) -> Check {
    match status {
        0 => Ok(()),
        other => fail(format!("/bin/true ended with {other}")),
    }
}

/// Ends the shim, so that the next life has the machine for itself.
fn gone(task: &Task) -> Check {
    let (shim, _) = task.connect()?;
    // Some servers end before they have answered.
    let _ = task.shutdown();
    command::eventually("the shim to end", Duration::from_secs(5), || {
        fs::metadata(format!("/proc/{shim}/exe")).is_err()
    })
}

fn open_files(pid: u32) -> Check<f64> {
    let count = u32::try_from(fs::read_dir(format!("/proc/{pid}/fd"))?.count())?;
    Ok(f64::from(count))
}

fn memory(pid: u32, samples: &mut Samples) -> Check {
    // Pages of a program that was just written count as dirty until they are on disk.
    nix::unistd::sync();
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    for (row, key) in [(Row::Pss, "Pss:"), (Row::PrivateDirty, "Private_Dirty:")] {
        let found = text.lines().find_map(|line| line.strip_prefix(key));
        let Some(kilobytes) = found.and_then(|l| l.trim().strip_suffix(" kB")) else {
            return fail(format!("no {key} in smaps_rollup of {pid}"));
        };
        samples.insert(row, kilobytes.trim().parse::<f64>()? / 1024.0);
    }
    Ok(())
}
