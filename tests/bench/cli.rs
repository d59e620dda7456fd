//! How long do the command lines take to run `/bin/true`, by hyperfine?

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rsrun_tests::command;
use rsrun_tests::suite::{Check, fail};
use serde_json::Value;

use crate::columns::{self, Column, Kind, Maker};
use crate::life;
use crate::report::Report;
use crate::table::{self, Table};

/// How often all columns are gone through.
const ROUNDS: usize = 30;

/// The rows: one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Run;

impl table::Row for Run {
    fn title(self) -> String {
        "`run` of `/bin/true`, ms".into()
    }
}

/// `RSRUN_BENCH_RUNS` runs (600) of each; without a shell, whose time would be in the figure. Each round is a hyperfine over
/// all of them: it runs one column to its end before the next, and a machine is not the same for long.
pub fn measure() -> Check<Report> {
    let runs = crate::number("RSRUN_BENCH_RUNS", 600)?;
    let columns = columns::all("cli")?;
    let json = Path::new("/run/rsrun-bench.json");
    let mut hyperfine = Command::new("hyperfine");
    hyperfine.args(["--shell=none", "--warmup=5", "--style=none"]);
    hyperfine.arg(format!("--runs={}", runs.div_ceil(ROUNDS)));
    hyperfine.arg("--export-json").arg(json);
    for column in &columns {
        hyperfine.args(["--command-name", &column.title]);
    }
    for column in &columns {
        hyperfine.arg(line(&command_of(column)?));
    }

    let heading = format!(
        "hyperfine, {ROUNDS} rounds of {} runs: medians, in brackets the 95th percentile.",
        runs.div_ceil(ROUNDS)
    );
    let mut table = Table::new(heading, columns.iter().map(|c| c.title.clone()).collect());
    let us = columns::of(&columns, Maker::Us);
    table.compare("rsrun / crun", us, columns::of(&columns, Maker::GoWithCrun));
    table.compare("rsrun / floor", us, columns::floor(&columns));
    for _ in 0..ROUNDS {
        command::run(&mut hyperfine, Duration::from_secs(600))?.ok()?;
        let found: Value = serde_json::from_slice(&std::fs::read(json)?)?;
        for at in 0..columns.len() {
            let Some(times) = found["results"][at]["times"].as_array() else {
                return fail(format!("hyperfine wrote no times for column {at}"));
            };
            for seconds in times.iter().filter_map(Value::as_f64) {
                table.add(at, [(Run, seconds * 1e3)].into());
            }
        }
    }
    Ok(Report::new("bench-cli", table.markdown()))
}

fn command_of(column: &Column) -> Check<Command> {
    match &column.kind {
        Kind::Floor(program) => Ok(life::floor(program)),
        Kind::Runtime { world, cli, .. } => {
            let bundle = world.directory().join("true");
            let spec = life::usual(world, "true", &["/bin/true"]);
            life::bundle_for_cli(world, &bundle, &spec)?;
            Ok(life::run_by_cli(world, cli, &bundle, "true"))
        }
    }
}

/// As hyperfine splits it again: no path of ours has a space or a quote.
fn line(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Vec<_> = words.map(|w| w.to_string_lossy()).collect();
    words.join(" ")
}
