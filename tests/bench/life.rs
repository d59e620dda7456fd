//! How long does each step of a container's life take, and what memory serves it?

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rsrun_tests::by_hand::{self, ByHand};
use rsrun_tests::command;
use rsrun_tests::places::Places;
use rsrun_tests::suite::{Check, fail};
use rsrun_tests::task::{INIT, Streams, Task};
use serde_json::{Value, json};

use crate::chart::{Bars, Group};
use crate::columns::{self, Column, Kind, Maker};
use crate::memory;
use crate::report::Report;
use crate::table::{self, Table, figure, quantile};

/// What is measured, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    StartShim,
    Create,
    Start,
    Delete,
    WholeLife,
    Exec,
    Kill,
    Pss,
    PrivateDirty,
    OpenFiles,
    CommandLine,
}

impl table::Row for Row {
    fn title(self) -> String {
        match self {
            Row::StartShim => "`start` of a shim, ms",
            Row::Create => "Create, ms",
            Row::Start => "Start, ms",
            Row::Delete => "Delete, ms",
            Row::WholeLife => "start … delete of `/bin/true`, ms",
            Row::Exec => "exec + start + wait + delete, ms",
            Row::Kill => "Kill(9) … Wait answered, ms",
            Row::Pss => "memory of the serving process two seconds later, PSS, MB",
            Row::PrivateDirty => "its private dirty memory, MB",
            Row::OpenFiles => "fds gained in 20 execs",
            Row::CommandLine => "command line: `run` of `/bin/true`, ms",
        }
        .into()
    }
}

impl Row {
    /// The rows of the chart: name and unit.
    const CHARTED: [(Row, &str, &str); 10] = [
        (Row::StartShim, "start of a shim", "ms"),
        (Row::Create, "Create", "ms"),
        (Row::Start, "Start", "ms"),
        (Row::Delete, "Delete", "ms"),
        (Row::WholeLife, "whole life of /bin/true", "ms"),
        (Row::Exec, "exec, wait, delete", "ms"),
        (Row::Kill, "Kill … Wait answered", "ms"),
        (Row::Pss, "memory of a shim (PSS)", "MB"),
        (Row::PrivateDirty, "its private dirty memory", "MB"),
        (Row::CommandLine, "command line: run", "ms"),
    ];
}

type Samples = table::Samples<Row>;

/// `RSRUN_BENCH_ROUNDS` lives (40) in every column, one after the other, each round beginning with another column: so what
/// else the machine does falls on all alike.
pub fn measure() -> Check<Report> {
    let rounds = crate::number("RSRUN_BENCH_ROUNDS", 40)?;
    let columns = columns::all("bench")?;
    // Pages of a program that was just written count as dirty until they are on disk.
    nix::unistd::sync();
    let heading = format!("Medians of {rounds} lives, in brackets the 95th percentile.");
    let mut table = Table::new(heading, columns.iter().map(|c| c.title.clone()).collect());
    let (us, crun) = (
        columns::of(&columns, Maker::Us),
        columns::of(&columns, Maker::GoWithCrun),
    );
    table.compare("rsrun / crun", us, crun);
    table.compare("rsrun / floor", us, columns::floor(&columns));
    for round in 0..=rounds {
        for turn in 0..columns.len() {
            let at = (turn + round) % columns.len();
            let Some(column) = columns.get(at) else {
                continue;
            };
            let mut samples = Samples::new();
            live(column, round, &mut samples).map_err(|stop| column.blame(stop))?;
            // The first life of each reads its program from the disk.
            if round > 0 {
                table.add(at, samples);
            }
        }
    }
    columns.iter().for_each(Column::close);
    let chart = crun.and_then(|crun| chart(&table, crun));
    Ok(Report::new("bench", table.markdown()).with_chart("numbers.svg", chart))
}

/// One life of each kind in this column.
fn live(column: &Column, round: usize, samples: &mut Samples) -> Check {
    match &column.kind {
        Kind::Runtime { world, cli, .. } => {
            long_life(world, &format!("long{round}"), round % 5 == 1, samples)?;
            short_life(world, &format!("short{round}"), samples)?;
            command_line(world, cli, &format!("cli{round}"), samples)
        }
        // The same program stands below both: a whole life cannot be shorter, whoever asks for it.
        Kind::Floor(program) => {
            for row in [Row::WholeLife, Row::CommandLine] {
                let mut floor = floor(program);
                timed(samples, row, || {
                    command::run(&mut floor, Duration::from_secs(20))?.ok()
                })?;
            }
            Ok(())
        }
    }
}

/// The floor program, ready to run `/bin/true`.
pub fn floor(program: &Path) -> Command {
    let mut floor = Command::new(program);
    floor.arg(Places::find().rootfs);
    floor.args(["/sys/fs/cgroup/floor", "/bin/true"]);
    floor
}

/// How long a server may settle before its memory is looked at: what it holds for days counts, not what its last
/// call left.
const SETTLED: Duration = Duration::from_secs(2);

/// A container that stays until it is killed; execs are measured in it, and memory where there is time to settle.
fn long_life(world: &ByHand, id: &str, settles: bool, samples: &mut Samples) -> Check {
    let quiet = Streams::default();
    world.prepare(id, &usual(world, id, &["/bin/sleep", "1000"]))?;
    world.keep_log(id)?;
    let answer = timed(samples, Row::StartShim, || world.start_raw(id))?.ok()?;
    let started = world.adopt(by_hand::read_answer(&answer.bytes)?, id)?;
    let task = world.task(&started, id)?;
    timed(samples, Row::Create, || {
        Ok(task.create(&world.rootfs(), &quiet)?)
    })?;
    timed(samples, Row::Start, || Ok(task.start(INIT)?))?;

    let (shim, _) = task.connect()?;
    let before = open_files(shim)?;
    let mut execs = Vec::new();
    for n in 0..20 {
        execs.push(exec(&task, &format!("exec{n}"))?);
    }
    // The first ones warm up; of the others one stands for the round.
    let warm = execs.get(10..).unwrap_or_default();
    samples.insert(Row::Exec, quantile(warm, 0.5).unwrap_or(f64::NAN));
    samples.insert(Row::OpenFiles, open_files(shim)? - before);
    if settles {
        std::thread::sleep(SETTLED);
        let used = memory::of(shim)?;
        samples.insert(Row::Pss, used.pss / 1024.0);
        samples.insert(Row::PrivateDirty, used.private_dirty / 1024.0);
    }

    timed(samples, Row::Kill, || {
        task.kill(INIT, 9)?;
        Ok(task.wait(INIT)?)
    })?;
    timed(samples, Row::Delete, || Ok(task.delete(INIT)?))?;
    gone(&task)
}

/// Milliseconds from an exec's request to the answer of its deletion.
pub fn exec(task: &Task, name: &str) -> Check<f64> {
    let begun = Instant::now();
    task.exec(name, &["/bin/true"], &Streams::default())?;
    task.start(name)?;
    ended_well(task.wait(name)?.status)?;
    task.delete(name)?;
    Ok(milliseconds(begun))
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
fn command_line(world: &ByHand, cli: &Path, id: &str, samples: &mut Samples) -> Check {
    let bundle = world.directory().join(id);
    bundle_for_cli(world, &bundle, &usual(world, id, &["/bin/true"]))?;
    let mut run = run_by_cli(world, cli, &bundle, id);
    timed(samples, Row::CommandLine, || {
        command::run(&mut run, Duration::from_secs(20))?.ok()
    })?;
    fs::remove_dir_all(&bundle)?;
    Ok(())
}

/// A bundle that needs no mount before it runs: its root is the shared image.
pub fn bundle_for_cli(world: &ByHand, bundle: &Path, spec: &Value) -> Check {
    let mut spec = spec.clone();
    spec["root"]["path"] = json!(world.places.rootfs);
    spec["root"]["readonly"] = true.into();
    fs::create_dir_all(bundle)?;
    fs::write(bundle.join("config.json"), spec.to_string())?;
    Ok(())
}

/// `run` of that bundle.
pub fn run_by_cli(world: &ByHand, cli: &Path, bundle: &Path, id: &str) -> Command {
    let mut run = Command::new(cli);
    run.arg("--root").arg(world.directory().join("cli"));
    run.args(["run", "--bundle"]).arg(bundle).arg(id);
    run
}

/// The spec of a usual container: six namespaces, seven mounts, four masked and five read-only paths. No limits, so
/// that it runs on a host of either cgroup layout.
pub fn usual(world: &ByHand, id: &str, args: &[&str]) -> Value {
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

/// Since a moment, with the clock's own resolution.
pub fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn ended_well(status: u32) -> Check {
    match status {
        0 => Ok(()),
        other => fail(format!("/bin/true ended with {other}")),
    }
}

/// Ends the shim, so that the next life has the machine for itself.
pub fn gone(task: &Task) -> Check {
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

/// Every row as bars in units of the newest Go shim with crun.
fn chart(table: &Table<Row>, unit: usize) -> Option<String> {
    let group = |(row, name, what): (Row, &str, &str)| {
        let one = table.median(row, unit)?;
        let bar = |column| {
            let value = table.median(row, column)?;
            Some((value / one, format!("{} {what}", figure(value))))
        };
        Some(Group {
            name: name.into(),
            bars: (0..table.columns().len()).map(bar).collect(),
        })
    };
    let bars = Bars {
        title:
            "The life of a container, in units of the newest Go shim with crun (shorter is better)"
                .into(),
        columns: table.columns().to_vec(),
        groups: Row::CHARTED.into_iter().filter_map(group).collect(),
    };
    Some(bars.svg())
}
