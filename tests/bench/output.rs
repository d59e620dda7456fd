//! What does output cost on its way: how fast, and how much of a processor in the shim?

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rsrun_tests::by_hand::ByHand;
use rsrun_tests::command::eventually;
use rsrun_tests::suite::{Check, fail};
use rsrun_tests::task::{INIT, Streams, Task};
use rsrun_tests::{fifo, proc};

use crate::columns::{self, Column, Kind, Maker};
use crate::idle;
use crate::life;
use crate::report::Report;
use crate::table::{self, Table};

/// Where a stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Fifo,
    File,
    Terminal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Speed(Way),
    Cpu(Way),
    IdleCalls,
    IdleSwitches,
}

impl table::Row for Row {
    fn title(self) -> String {
        match self {
            Row::Speed(way) => format!("{way:?}: MB per second"),
            Row::Cpu(way) => format!("{way:?}: CPU seconds of the shim per GB"),
            Row::IdleCalls => "idle: system calls of the shim".into(),
            Row::IdleSwitches => "idle: wake-ups of its threads".into(),
        }
    }
}

/// Longest time for one transfer.
const LIMIT: Duration = Duration::from_secs(120);

/// `RSRUN_BENCH_ROUNDS` (5) transfers of `RSRUN_BENCH_MEGABYTES` (1000; a tenth through a terminal), and
/// `RSRUN_BENCH_IDLE` seconds (60) of nothing.
pub fn measure() -> Check<Report> {
    let rounds = crate::number("RSRUN_BENCH_ROUNDS", 5)?;
    let megabytes = crate::number("RSRUN_BENCH_MEGABYTES", 1000)?.max(10);
    let idle = crate::number("RSRUN_BENCH_IDLE", 60)?;
    let mut columns = columns::all("output")?;
    columns.retain(|c| matches!(c.kind, Kind::Runtime { .. }));
    let heading = format!(
        "Medians of {rounds} transfers of {megabytes} MB ({} MB through a terminal), in brackets the 95th percentile; \
         one idle container for {idle} s.",
        megabytes / 10
    );
    let mut table = Table::new(heading, columns.iter().map(|c| c.title.clone()).collect());
    let us = columns::of(&columns, Maker::Us);
    let go = columns::of(&columns, Maker::Go);
    table.compare("rsrun / newest Go shim", us, go);

    let mut tasks = Vec::new();
    for column in &columns {
        if let Kind::Runtime { world, .. } = &column.kind {
            let task = world.running("idle", &["sleep", "100000"]);
            tasks.push((world, task.map_err(|stop| column.blame(stop))?));
        }
    }
    for round in 0..=rounds {
        for way in [Way::Fifo, Way::File, Way::Terminal] {
            for turn in 0..tasks.len() {
                let at = (turn + round) % tasks.len();
                let (Some((world, task)), Some(column)) = (tasks.get(at), columns.get(at)) else {
                    continue;
                };
                let amount = if way == Way::Terminal {
                    megabytes / 10
                } else {
                    megabytes
                };
                let moved = transfer(world, task, way, amount, round);
                let (speed, cpu) = moved.map_err(|stop| column.blame(stop))?;
                if round > 0 {
                    table.add(at, [(Row::Speed(way), speed), (Row::Cpu(way), cpu)].into());
                }
            }
        }
    }

    // All at the same time: nothing is what is to be seen.
    let mut watches = Vec::new();
    for (at, (_, task)) in tasks.iter().enumerate() {
        watches.push(idle::watch(task.connect()?.0, &format!("idle{at}"))?);
    }
    std::thread::sleep(Duration::from_secs(idle.try_into()?));
    for (at, watch) in watches.into_iter().enumerate() {
        let (calls, switches) = watch.end()?;
        table.add(
            at,
            [(Row::IdleCalls, calls), (Row::IdleSwitches, switches)].into(),
        );
    }
    for (_, task) in &tasks {
        task.kill(INIT, 9)?;
        task.wait(INIT)?;
        task.delete(INIT)?;
        life::gone(task)?;
    }
    columns.iter().for_each(Column::close);
    Ok(Report::new("bench-output", table.markdown()))
}

/// MB per second and the shim's CPU seconds per GB for one exec that prints that many megabytes.
fn transfer(
    world: &ByHand,
    task: &Task,
    way: Way,
    megabytes: usize,
    round: usize,
) -> Check<(f64, f64)> {
    let exec = format!("{way:?}{round}").to_lowercase();
    let place = world.directory().join(&exec);
    // The Go shim asks for a place of both streams; only a terminal has one.
    let errors = world.directory().join(format!("{exec}-errors"));
    let uri = |place: &Path| match way {
        Way::File => format!("file://{}", place.display()),
        Way::Fifo | Way::Terminal => place.display().to_string(),
    };
    let mut streams = Streams {
        terminal: way == Way::Terminal,
        stdout: uri(&place),
        ..Default::default()
    };
    let mut readers = Vec::new();
    if way != Way::File {
        fifo::make(world.directory(), &exec)?;
        readers.push(fifo::Reader::open(&place, LIMIT)?);
    }
    if way == Way::Fifo {
        nix::unistd::mkfifo(&errors, nix::sys::stat::Mode::S_IRWXU)?;
        readers.push(fifo::Reader::open(&errors, LIMIT)?);
    }
    if way != Way::Terminal {
        streams.stderr = uri(&errors);
    }
    let count = format!("count={}", megabytes * 16);
    let program = ["dd", "if=/dev/zero", "bs=62500", &count];
    let bytes = megabytes * 1_000_000;

    task.exec(&exec, &program, &streams)?;
    let shim = task.connect()?.0;
    let (begun, before) = (Instant::now(), cpu(shim, &task.id)?);
    task.start(&exec)?;
    match readers.first_mut() {
        Some(reader) => arrived(reader, bytes, way)?,
        None => eventually("all in the file", LIMIT, || size(&place) >= bytes)?,
    }
    let seconds = begun.elapsed().as_secs_f64();
    let used = cpu(shim, &task.id)? - before;
    task.wait(&exec)?;
    task.delete(&exec)?;
    // Some shims remove the pipes themselves.
    for file in [&place, &errors] {
        let _ = fs::remove_file(file);
    }
    let megabytes = megabytes as f64;
    Ok((megabytes / seconds, used / megabytes * 1000.0))
}

/// Reads to the end; a terminal also shows what dd says about itself.
fn arrived(reader: &mut fifo::Reader, bytes: usize, way: Way) -> Check {
    let mut seen = 0;
    reader.each(|part| seen += part.len())?;
    match seen {
        n if n == bytes || (way == Way::Terminal && n > bytes) => Ok(()),
        n => fail(format!("{n} of {bytes} bytes arrived")),
    }
}

fn size(place: &Path) -> usize {
    fs::metadata(place)
        .ok()
        .and_then(|m| usize::try_from(m.len()).ok())
        .unwrap_or(0)
}

/// Of the shim and of what runs for it beside the container.
fn cpu(shim: u32, id: &str) -> Check<f64> {
    let inside: Vec<_> = proc::cgroups_named(id)
        .iter()
        .flat_map(|group: &PathBuf| proc::pids_in(group))
        .collect();
    let mut all = proc::cpu_seconds(shim);
    for child in proc::children(shim) {
        if !inside.contains(&child) {
            all += proc::cpu_seconds(child.as_raw().try_into()?);
        }
    }
    Ok(all)
}
