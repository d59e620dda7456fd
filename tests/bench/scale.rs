//! How do costs grow with the number of containers, in one pod and in as many shims, and with the size of a spec?

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rsrun_tests::by_hand::ByHand;
use rsrun_tests::command;
use rsrun_tests::suite::{Check, Stop, World, fail};
use rsrun_tests::task::{INIT, Streams, Task};
use serde_json::json;

use crate::columns::{self, Column, Kind, Maker};
use crate::life::{self, exec, milliseconds};
use crate::lines::{Line, Lines, Panel};
use crate::memory::{self, Used};
use crate::report::Report;
use crate::table::{self, Table};

/// How the containers are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Served {
    Pod,
    Shims,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    StartShim,
    Create,
    Start,
    Exec,
    Stats,
    Kill,
    Delete,
    Pss,
    PrivateDirty,
}

impl table::Row for (Served, What) {
    fn title(self) -> String {
        let (served, what) = self;
        let place = match served {
            Served::Pod => "one pod",
            Served::Shims => "as many shims",
        };
        let what = match what {
            What::StartShim => "`start` of one more shim, ms",
            What::Create => "Create of one more, ms",
            What::Start => "its Start, ms",
            What::Exec => "exec + start + wait + delete, ms",
            What::Stats => "Stats, ms",
            What::Kill => "Kill(9) … Wait answered, ms",
            What::Delete => "Delete, ms",
            What::Pss => "PSS of all shims for each container, kB",
            What::PrivateDirty => "their private dirty memory for each container, kB",
        };
        format!("{place}: {what}")
    }
}

/// `RSRUN_BENCH_LEVELS` (1,10,100,1000) containers, `RSRUN_BENCH_ROUNDS` (20) samples at each.
pub fn measure() -> Check<Report> {
    let rounds = crate::number("RSRUN_BENCH_ROUNDS", 20)?;
    let levels = levels()?;
    let most = levels.iter().max().copied().unwrap_or(1);
    allow_files()?;
    let columns = columns::all("scale")?;
    let heading =
        format!("Medians of {rounds}, in brackets the 95th percentile; containers alive beside:");
    let mut table = Table::new(heading, levels.iter().map(ToString::to_string).collect());
    table.compare(
        &format!("{most} / 1"),
        levels.iter().position(|l| *l == most),
        levels.iter().position(|l| *l == 1),
    );
    if let Some(Column {
        kind: Kind::Runtime { world, .. },
        ..
    }) = columns::of(&columns, Maker::Us).and_then(|at| columns.get(at))
    {
        for served in [Served::Pod, Served::Shims] {
            let grown = grow(world, served, &levels, rounds, &mut table);
            let said = match grown {
                Err(Stop::Fail(text)) => fail(format!("{served:?}: {text}")),
                other => other,
            };
            // Whatever came of it, a thousand processes are not left to the next measurement.
            world.close();
            said?;
        }
    }
    let huge = huge(&columns, rounds.min(5))?;
    columns.iter().for_each(Column::close);
    let text = format!("{}\n\n{}", table.markdown(), huge.markdown());
    Ok(Report::new("bench-scale", text).with_chart("scale.svg", Some(picture(&table, &levels))))
}

fn levels() -> Check<Vec<usize>> {
    let text = std::env::var("RSRUN_BENCH_LEVELS").unwrap_or_else(|_| "1,10,100,1000".into());
    let levels: Result<Vec<usize>, _> = text.split(',').map(|l| l.trim().parse()).collect();
    Ok(levels?)
}

/// Each shim costs the client a socket, a log and a thread.
fn allow_files() -> Check {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

fn grow(
    world: &ByHand,
    served: Served,
    levels: &[usize],
    rounds: usize,
    table: &mut Table<(Served, What)>,
) -> Check {
    let mut alive: Vec<Task> = Vec::new();
    for (column, level) in levels.iter().enumerate() {
        while alive.len() < *level {
            let id = format!("{served:?}-{}", alive.len()).to_lowercase();
            let task = add(world, served, &id, alive.first(), &mut BTreeMap::new())?;
            alive.push(task);
        }
        for round in 0..=rounds {
            let mut samples = BTreeMap::new();
            let id = format!("{served:?}-more-{level}-{round}").to_lowercase();
            let more = add(world, served, &id, alive.first(), &mut samples)?;
            let begun = Instant::now();
            more.kill(INIT, 9)?;
            more.wait(INIT)?;
            samples.insert(What::Kill, milliseconds(begun));
            let begun = Instant::now();
            more.delete(INIT)?;
            samples.insert(What::Delete, milliseconds(begun));
            if served == Served::Shims {
                life::gone(&more)?;
            }
            fs::remove_dir_all(world.bundle(&id))?;

            // Each time in another of those that stay.
            let Some(old) = alive.get(round * 7919 % alive.len()) else {
                continue;
            };
            samples.insert(What::Exec, exec(old, &format!("e{level}-{round}"))?);
            let begun = Instant::now();
            old.stats()?;
            samples.insert(What::Stats, milliseconds(begun));
            if round > 0 {
                let samples = samples.into_iter().map(|(what, v)| ((served, what), v));
                table.add(column, samples.collect());
            }
        }
        let used = used_by(&alive)?;
        let each = |all: f64| all / alive.len() as f64;
        table.add(
            column,
            [
                ((served, What::Pss), each(used.pss)),
                ((served, What::PrivateDirty), each(used.private_dirty)),
            ]
            .into(),
        );
    }
    Ok(())
}

/// One container more: in the shim of `first`, if it is a pod and there is one.
fn add(
    world: &ByHand,
    served: Served,
    id: &str,
    first: Option<&Task>,
    samples: &mut BTreeMap<What, f64>,
) -> Check<Task> {
    world.prepare(id, &life::usual(world, id, &["/bin/sleep", "100000"]))?;
    let task = match (served, first) {
        (Served::Pod, Some(first)) => world.task_on(Arc::clone(&first.client), id),
        (Served::Pod, None) | (Served::Shims, _) => {
            let begun = Instant::now();
            let started = world.start(id)?;
            samples.insert(What::StartShim, milliseconds(begun));
            world.task(&started, id)?
        }
    };
    let begun = Instant::now();
    task.create(&world.rootfs(), &Streams::default())?;
    samples.insert(What::Create, milliseconds(begun));
    let begun = Instant::now();
    task.start(INIT)?;
    samples.insert(What::Start, milliseconds(begun));
    Ok(task)
}

/// By all serving processes together.
fn used_by(tasks: &[Task]) -> Check<Used> {
    let mut shims = std::collections::BTreeSet::new();
    for task in tasks {
        shims.insert(task.connect()?.0);
    }
    let mut all = Used::default();
    for shim in shims {
        let used = memory::of(shim)?;
        all.pss += used.pss;
        all.private_dirty += used.private_dirty;
    }
    Ok(all)
}

/// How large the spec is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Size {
    mounts: usize,
    variables: usize,
}

impl table::Row for Size {
    fn title(self) -> String {
        format!(
            "command line: `run` with {} more mounts and {} more variables, ms",
            self.mounts, self.variables
        )
    }
}

const SIZES: [Size; 4] = [
    Size {
        mounts: 0,
        variables: 0,
    },
    Size {
        mounts: 200,
        variables: 500,
    },
    Size {
        mounts: 2000,
        variables: 0,
    },
    Size {
        mounts: 2000,
        variables: 5000,
    },
];

/// The program counts for itself: a mount or a variable that is missing is a failure.
fn huge(columns: &[Column], rounds: usize) -> Check<Table<Size>> {
    let heading = format!(
        "Medians of {rounds}, in brackets the 95th percentile; the container counts its mounts and variables."
    );
    let mut table = Table::new(heading, columns.iter().map(|c| c.title.clone()).collect());
    let us = columns::of(columns, Maker::Us);
    table.compare("rsrun / crun", us, columns::of(columns, Maker::GoWithCrun));
    for size in SIZES {
        for round in 0..=rounds {
            for (at, column) in columns.iter().enumerate() {
                let Kind::Runtime { world, cli, .. } = &column.kind else {
                    continue;
                };
                let name = format!("huge-{}-{}", size.mounts, size.variables);
                let bundle = world.directory().join(&name);
                write_huge(world, &bundle, &name, size)?;
                let begun = Instant::now();
                let mut run = life::run_by_cli(world, cli, &bundle, &name);
                let ran = command::run(&mut run, Duration::from_secs(60));
                ran.and_then(command::Outcome::ok)
                    .map_err(|stop| column.blame(stop))?;
                if round > 0 {
                    table.add(at, [(size, milliseconds(begun))].into());
                }
            }
        }
    }
    Ok(table)
}

fn write_huge(world: &ByHand, bundle: &std::path::Path, id: &str, size: Size) -> Check {
    let source = world.directory().join("source");
    fs::create_dir_all(&source)?;
    let script = format!(
        "[ $(wc -l < /proc/mounts) -gt {} ] && [ $(env | grep -c ^VARIABLE_) = {} ]",
        size.mounts, size.variables
    );
    let mut spec = life::usual(world, id, &["/bin/sh", "-c", &script]);
    let mounts = (0..size.mounts).map(|n| {
        json!({"destination": format!("/tmp/many/{n}"), "type": "bind", "source": source, "options": ["rbind", "ro"]})
    });
    let variables = (0..size.variables).map(|n| json!(format!("VARIABLE_{n}=value-{n}")));
    if let Some(list) = spec["mounts"].as_array_mut() {
        list.extend(mounts);
    }
    if let Some(list) = spec["process"]["env"].as_array_mut() {
        list.extend(variables);
    }
    life::bundle_for_cli(world, bundle, &spec)
}

fn picture(table: &Table<(Served, What)>, levels: &[usize]) -> String {
    let line = |(served, what): (Served, What), name: &str| {
        let point = |(column, level): (usize, &usize)| {
            let value = table.median((served, what), column)?;
            Some((*level as f64, value))
        };
        Line {
            name: name.into(),
            points: levels.iter().enumerate().filter_map(point).collect(),
        }
    };
    let times = |served, title: &str| Panel {
        title: title.into(),
        lines: vec![
            line((served, What::Stats), "Stats"),
            line((served, What::Delete), "Delete"),
            line((served, What::Create), "Create"),
            line((served, What::Exec), "exec, wait, delete"),
        ],
    };
    let lines = Lines {
        title: "What one more costs beside so many containers (level is flat)".into(),
        over: "containers alive".into(),
        panels: vec![
            times(Served::Pod, "in one pod, ms"),
            times(Served::Shims, "in as many shims, ms"),
            Panel {
                title: "memory for each container, kB".into(),
                lines: vec![
                    line((Served::Pod, What::PrivateDirty), "pod: private dirty"),
                    line((Served::Shims, What::PrivateDirty), "shims: private dirty"),
                    line((Served::Pod, What::Pss), "pod: PSS"),
                    line((Served::Shims, What::Pss), "shims: PSS"),
                ],
            },
        ],
    };
    lines.svg()
}
