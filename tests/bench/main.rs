//! How long does each step of a container's life take, beside the Go shim with runc and crun?
//!
//! `make bench` runs it. All columns are measured in one run, one life of each after the other, so that what else
//! the machine does falls on all of them alike. `RSRUN_BENCH_ROUNDS` says how many lives (30), and
//! `RSRUN_BENCH_ONLY=rsrun` leaves columns out.

mod life;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rsrun_tests::by_hand::{ByHand, Manner};
use rsrun_tests::ground;
use rsrun_tests::places::Places;
use rsrun_tests::suite::{Check, Stop, World};

use table::Table;

/// One way of running containers.
pub struct Column {
    /// As the table shows it.
    pub title: &'static str,
    /// The containerd in which its shim believes to be.
    pub world: ByHand,
    /// Its command line.
    pub cli: PathBuf,
}

fn main() -> ExitCode {
    ground::on_private_ground(|| match measure() {
        Ok(table) => {
            println!("{}", table.markdown());
            ExitCode::SUCCESS
        }
        Err(Stop::Fail(text) | Stop::Skip(text)) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    })
}

fn measure() -> Check<Table> {
    let rounds: usize = match std::env::var("RSRUN_BENCH_ROUNDS") {
        Ok(text) => text.parse()?,
        Err(_) => 30,
    };
    let columns = columns()?;
    let mut table = Table::new(columns.iter().map(|c| c.title).collect(), rounds);
    for round in 0..=rounds {
        for (at, column) in columns.iter().enumerate() {
            let mut samples = BTreeMap::new();
            life::live(column, round, &mut samples).map_err(|stop| {
                let testimony = column.world.testimony();
                match stop {
                    Stop::Fail(text) => {
                        Stop::Fail(format!("{}: {text}\n{testimony}", column.title))
                    }
                    Stop::Skip(reason) => Stop::Skip(reason),
                }
            })?;
            // The first life of each reads its program from the disk.
            if round > 0 {
                table.add(at, samples);
            }
        }
    }
    for column in &columns {
        column.world.close();
    }
    Ok(table)
}

fn columns() -> Check<Vec<Column>> {
    let places = Places::find();
    let go = |runc: PathBuf| Places {
        runtime: "io.containerd.runc.v2".into(),
        runc,
        ..places.clone()
    };
    // The Go shim runs whatever is called runc in its PATH.
    let as_runc = PathBuf::from("/run/rsrun-bench/crun");
    let crun = std::env::var_os("RSRUN_CRUN")
        .map_or_else(|| "/var/cache/rsrun/crun/crun".into(), PathBuf::from);
    for line in ["1.1", "1.6"] {
        std::fs::create_dir_all(as_runc.join(line))?;
        std::os::unix::fs::symlink(&crun, as_runc.join(line).join("runc"))?;
    }
    let product = Places {
        runtime: "io.containerd.rsrun.v2".into(),
        ..places.clone()
    };
    let runc = |line: &str| places.runc.join(line).join("runc");

    let only = std::env::var("RSRUN_BENCH_ONLY").unwrap_or_default();
    let all: [(&'static str, Places, Manner, PathBuf); 4] = [
        (
            "Go shim 1.6 + runc 1.1",
            go(places.runc.clone()),
            Manner::Legacy,
            runc("1.1"),
        ),
        (
            "Go shim 2.4 + runc 1.6",
            go(places.runc.clone()),
            Manner::Bootstrap,
            runc("1.6"),
        ),
        ("Go shim 2.4 + crun", go(as_runc), Manner::Bootstrap, crun),
        (
            "rsrun",
            product.clone(),
            Manner::Bootstrap,
            product.bin.join("rsrun"),
        ),
    ];
    let mut columns = Vec::new();
    for (at, (title, places, manner, cli)) in all.into_iter().enumerate() {
        if !title.contains(&only) || !exists(&cli) {
            continue;
        }
        columns.push(Column {
            title,
            world: ByHand::new(&places, manner, &format!("bench{at}"))?,
            cli,
        });
    }
    Ok(columns)
}

fn exists(path: &Path) -> bool {
    let found = path.exists();
    if !found {
        eprintln!("{} is not there: its column is left out", path.display());
    }
    found
}
