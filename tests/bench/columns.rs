//! Who is measured beside whom, in which version and by which name?

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rsrun_tests::by_hand::{ByHand, Manner};
use rsrun_tests::command;
use rsrun_tests::places::Places;
use rsrun_tests::suite::{Check, Stop, World};

/// One way of running containers, as a column of the tables.
pub struct Column {
    /// With the versions of its parts.
    pub title: String,
    /// What it is.
    pub kind: Kind,
}

/// Runtimes have a shim and a command line; the floor is one program.
#[allow(clippy::large_enum_variant, reason = "there are five of them")]
pub enum Kind {
    /// A shim in the containerd in which it believes to be, and the command line below or beside it.
    Runtime {
        /// Whose it is.
        maker: Maker,
        /// Its containerd.
        world: ByHand,
        /// Its command line.
        cli: PathBuf,
    },
    /// floor.c, what the kernel alone takes.
    Floor(PathBuf),
}

/// Who made a runtime, as far as a table compares by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// containerd-shim-runc-v2 with runc as Debian 12 has both.
    OldGo,
    /// The newest of both.
    Go,
    /// containerd-shim-runc-v2 with crun in runc's place.
    GoWithCrun,
    /// The product.
    Us,
}

impl Column {
    /// What the column's world says about a failure, added to it.
    pub fn blame(&self, stop: Stop) -> Stop {
        match (stop, &self.kind) {
            (Stop::Fail(text), Kind::Runtime { world, .. }) => {
                Stop::Fail(format!("{}: {text}\n{}", self.title, world.testimony()))
            }
            (Stop::Fail(text), Kind::Floor(_)) => Stop::Fail(format!("{}: {text}", self.title)),
            (skip @ Stop::Skip(_), _) => skip,
        }
    }

    /// Ends what it left.
    pub fn close(&self) {
        if let Kind::Runtime { world, .. } = &self.kind {
            world.close();
        }
    }
}

/// Where the runtime of this maker stands.
pub fn of(columns: &[Column], wanted: Maker) -> Option<usize> {
    columns
        .iter()
        .position(|c| matches!(&c.kind, Kind::Runtime { maker, .. } if *maker == wanted))
}

/// Where the floor stands.
pub fn floor(columns: &[Column]) -> Option<usize> {
    columns
        .iter()
        .position(|c| matches!(c.kind, Kind::Floor(_)))
}

/// Those of `RSRUN_BENCH_ONLY` (part of a title), all without it, of what is there.
pub fn all(purpose: &str) -> Check<Vec<Column>> {
    let only = std::env::var("RSRUN_BENCH_ONLY").unwrap_or_default();
    let mut columns = Vec::new();
    for maker in [Maker::OldGo, Maker::Go, Maker::GoWithCrun, Maker::Us] {
        let (places, manner, cli) = ingredients(maker)?;
        if !cli.exists() {
            eprintln!("{} is not there: its column is left out", cli.display());
            continue;
        }
        let title = title(maker, &places, &cli)?;
        if title.contains(&only) {
            let name = format!("{purpose}{}", columns.len());
            let world = ByHand::new(&places, manner, &name)?;
            columns.push(Column {
                title,
                kind: Kind::Runtime { maker, world, cli },
            });
        }
    }
    if "floor".contains(&only) {
        columns.push(Column {
            title: "floor (C)".into(),
            kind: Kind::Floor(env!("RSRUN_FLOOR").into()),
        });
    }
    Ok(columns)
}

fn ingredients(maker: Maker) -> Check<(Places, Manner, PathBuf)> {
    let found = Places::find();
    let go = |runc: PathBuf| Places {
        runtime: "io.containerd.runc.v2".into(),
        runc,
        ..found.clone()
    };
    let runc = |line: &str| found.runc.join(line).join("runc");
    Ok(match maker {
        Maker::OldGo => (go(found.runc.clone()), Manner::Legacy, runc("1.1")),
        Maker::Go => (go(found.runc.clone()), Manner::Bootstrap, runc("1.6")),
        Maker::GoWithCrun => {
            let crun = std::env::var_os("RSRUN_CRUN")
                .map_or_else(|| "/var/cache/rsrun/crun/crun".into(), PathBuf::from);
            (go(called_runc(&crun)?), Manner::Bootstrap, crun)
        }
        Maker::Us => {
            let cli = found.bin.join("rsrun");
            let places = Places {
                runtime: "io.containerd.rsrun.v2".into(),
                ..found
            };
            (places, Manner::Bootstrap, cli)
        }
    })
}

/// The Go shim runs whatever is called runc in its PATH.
fn called_runc(crun: &Path) -> Check<PathBuf> {
    let directory = PathBuf::from("/run/rsrun-bench/crun");
    for line in ["1.1", "1.6"] {
        let place = directory.join(line).join("runc");
        if !place.exists() {
            std::fs::create_dir_all(directory.join(line))?;
            std::os::unix::fs::symlink(crun, place)?;
        }
    }
    Ok(directory)
}

fn title(maker: Maker, places: &Places, cli: &Path) -> Check<String> {
    let runtime = version(cli, "--version")?;
    let line = match maker {
        Maker::Us => return Ok(format!("rsrun {runtime}")),
        Maker::OldGo => "1.6",
        Maker::Go | Maker::GoWithCrun => "2.4",
    };
    let shim = version(&places.shim(line)?, "-v")?;
    let name = match maker {
        Maker::GoWithCrun => "crun",
        Maker::OldGo | Maker::Go | Maker::Us => "runc",
    };
    Ok(format!("Go shim {shim} + {name} {runtime}"))
}

/// The first word of what a program says that begins with a digit, without what a packager has added.
fn version(program: &Path, flag: &str) -> Check<String> {
    let said = command::run(Command::new(program).arg(flag), Duration::from_secs(10))?.ok()?;
    let word = said
        .stdout
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    match word.and_then(|word| word.split(['+', '~']).next()) {
        Some(word) => Ok(word.into()),
        None => Err(Stop::Fail(format!(
            "no version in what {} {flag} says: {}",
            program.display(),
            said.stdout
        ))),
    }
}
