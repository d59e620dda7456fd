//! What stays in a shim of the execs that it has served? Nothing may, however many they were.
//!
//! Probes are execs: a container with three of them a minute sees a million in eight months.
//! `RSRUN_SOAK=N` makes it N execs and prints a line for each 10,000 (`make soak`).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use rsrun_tests::by_hand::ByHand;
use rsrun_tests::command::eventually;
use rsrun_tests::events::What;
use rsrun_tests::fifo;
use rsrun_tests::footprint::{Footprint, files_below};
use rsrun_tests::pace;
use rsrun_tests::suite::{Case, Check, fail};
use rsrun_tests::task::{INIT, Streams, Task};
use rsrun_tests::ttrpc::locked;

pub fn cases() -> Vec<Case<ByHand>> {
    // An exec takes 3 ms here; a machine that is ten times slower is still no failure.
    let limit = Duration::from_secs(120)
        + Duration::from_millis(30) * u32::try_from(asked()).unwrap_or(u32::MAX);
    vec![Case {
        name: "ten_thousand_execs_leave_nothing_in_their_shim",
        limit,
        body: execs_leave_nothing,
    }]
}

/// Execs between two looks at the events; half of them one after the other, half several at once.
const BATCH: usize = 1_000;
const AT_ONCE: usize = 4;
/// Execs between two looks at the shim.
const LINE: usize = 10_000;
/// What memory may have grown by since the first batch, in kB.
const GROWTH: u64 = 256;

fn asked() -> usize {
    let said = std::env::var("RSRUN_SOAK").ok();
    said.and_then(|n| n.parse().ok())
        .unwrap_or_else(|| pace::fewer(10_000))
}

/// How one exec lives.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// It ends by itself at once, with the status.
    Ends(u32),
    /// Its output goes through a fifo.
    Speaks,
    /// It has a terminal.
    Types,
    /// It is killed.
    Killed,
    /// Its program does not exist.
    Fails,
    /// It is added and never started.
    Unborn,
}

fn kind(number: usize) -> Kind {
    match number % 50 {
        7 | 8 => Kind::Speaks,
        17 => Kind::Types,
        27 => Kind::Killed,
        37 => Kind::Fails,
        47 => Kind::Unborn,
        other => Kind::Ends(u32::from(!other.is_multiple_of(2))),
    }
}

/// What the events of an exec must say: its pid and status, if it was started.
type Ledger = Mutex<HashMap<String, Option<(u32, u32)>>>;

fn execs_leave_nothing(s: &ByHand) -> Check {
    let count = asked();
    let task = s.running("soak", &["sleep", "100000000"])?;
    let (shim, init) = task.connect()?;
    let watched = Watched {
        shim: Pid::from_raw(shim.try_into()?),
        init: Pid::from_raw(init.try_into()?),
        places: [
            s.bundle(&task.id),
            Path::new("/run/containerd/rsrun").join(s.ctr_ns()),
            s.directory().join("work"),
        ],
    };
    // Of the container itself; what comes after them is of its execs.
    let mut heard = Vec::new();
    eventually("its start was told", Duration::from_secs(20), || {
        heard.extend(s.events.take());
        heard.iter().any(|e| matches!(e.what, What::Start { .. }))
    })?;
    let mut first = None;
    let (mut done, mut began) = (0, Instant::now());
    while done < count {
        let batch = BATCH.min(count - done);
        live(s, &task, done, batch)?;
        done += batch;
        if first.is_some() && !done.is_multiple_of(LINE) && done < count {
            continue;
        }
        let rate = LINE.min(done) as f64 / began.elapsed().as_secs_f64();
        let now = watched.at_rest()?;
        if std::env::var_os("RSRUN_SOAK").is_some() {
            println!("soak {done:>8} execs, {rate:>5.0}/s: {now}");
        }
        match &first {
            None => first = Some(now),
            Some(first) => first.has_not_grown_to(&now, done)?,
        }
        began = Instant::now();
    }
    task.kill(INIT, 9)?;
    task.wait(INIT)?;
    task.delete(INIT)?;
    s.nothing_remains(&task.id)
}

/// `count` execs, and the events that tell of them.
fn live(s: &ByHand, task: &Task, from: usize, count: usize) -> Check {
    let ledger = Ledger::default();
    let half = from + count / 2;
    for number in from..half {
        one(s, task, number, &ledger)?;
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|worker| {
                let ledger = &ledger;
                scope.spawn(move || {
                    (half..from + count)
                        .filter(|number| number % AT_ONCE == worker)
                        .try_for_each(|number| one(s, task, number, ledger))
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|w| w.join().map_err(|_| "a worker panicked")?)
    })?;
    told_once(s, &locked(&ledger))
}

fn one(s: &ByHand, task: &Task, number: usize, ledger: &Ledger) -> Check {
    let exec = format!("e{number}");
    let kind = kind(number);
    let (status, args): (u32, &[&str]) = match kind {
        Kind::Ends(0) => (0, &["/bin/true"]),
        Kind::Ends(status) => (status, &["/bin/false"]),
        Kind::Speaks | Kind::Types => (0, &["/bin/echo", "said"]),
        Kind::Killed => (137, &["/bin/sleep", "1000"]),
        Kind::Fails => (0, &["/no/such/program"]),
        Kind::Unborn => (0, &["/bin/true"]),
    };
    let mut streams = Streams::default();
    let mut reader = None;
    if matches!(kind, Kind::Speaks | Kind::Types) {
        let path = fifo::make(s.directory(), &exec)?;
        reader = Some(fifo::Reader::open(&path, Duration::from_secs(60))?);
        streams.stdout = path.display().to_string();
        streams.terminal = matches!(kind, Kind::Types);
    }
    task.exec(&exec, args, &streams)?;
    let started = match kind {
        Kind::Unborn => None,
        Kind::Fails => {
            assert!(task.start(&exec).is_err(), "{args:?} was started");
            None
        }
        Kind::Ends(_) | Kind::Speaks | Kind::Types | Kind::Killed => {
            let pid = task.start(&exec)?;
            if matches!(kind, Kind::Killed) {
                task.kill(&exec, 9)?;
            }
            assert_eq!(task.wait(&exec)?.status, status, "{exec} {kind:?}");
            Some((pid, status))
        }
    };
    if let Some(mut reader) = reader {
        let said = reader.all()?;
        assert_eq!(String::from_utf8_lossy(&said).trim_end(), "said");
        std::fs::remove_file(&streams.stdout)?;
    }
    locked(ledger).insert(exec.clone(), started);
    let (pid, exit) = task.delete(&exec)?;
    if let Some(started) = started {
        assert_eq!((pid, exit.status), started, "deletion of {exec}");
    }
    Ok(())
}

/// Each exec was told of as added once, and if it ran as started and as ended once, with its pid and status.
fn told_once(s: &ByHand, ledger: &HashMap<String, Option<(u32, u32)>>) -> Check {
    let expected = ledger.len() + 2 * ledger.values().flatten().count();
    let mut heard = Vec::new();
    let complete = eventually("all events came", Duration::from_secs(20), || {
        heard.extend(s.events.take());
        heard.len() >= expected
    });
    let mut seen: HashMap<&str, [usize; 3]> = HashMap::new();
    for event in &heard {
        let (exec, at, fits) = match &event.what {
            What::ExecAdded { exec, .. } => (exec, 0, true),
            What::ExecStarted { exec, pid, .. } => {
                let told = ledger.get(exec).copied().flatten();
                (exec, 1, told.is_some_and(|(p, _)| p == *pid))
            }
            What::Exit {
                process,
                pid,
                status,
                ..
            } => {
                let told = ledger.get(process).copied().flatten();
                (process, 2, told == Some((*pid, *status)))
            }
            other => return fail(format!("an event of another kind: {other:?}")),
        };
        if !fits {
            return fail(format!(
                "{:?}, but it was {:?}",
                event.what,
                ledger.get(exec)
            ));
        }
        seen.entry(exec).or_default()[at] += 1;
    }
    for (exec, started) in ledger {
        let ran = usize::from(started.is_some());
        let told = seen.get(exec.as_str()).copied().unwrap_or_default();
        if told != [1, ran, ran] {
            return fail(format!(
                "{exec} {started:?}: added, started, exited {told:?} times"
            ));
        }
    }
    complete
}

/// Whose growth would be a leak.
struct Watched {
    shim: Pid,
    init: Pid,
    /// State root, bundle, work directory.
    places: [std::path::PathBuf; 3],
}

/// What is looked at after each batch.
struct Row {
    shim: Footprint,
    container_mounts: usize,
    files: usize,
}

impl Watched {
    /// Once the shim has given back what it needs only while something happens.
    fn at_rest(&self) -> Check<Row> {
        std::thread::sleep(Duration::from_millis(1200));
        Ok(Row {
            shim: Footprint::of(self.shim)?,
            container_mounts: Footprint::of(self.init)?.mounts,
            files: self.places.iter().map(|p| files_below(p)).sum(),
        })
    }
}

impl Row {
    fn has_not_grown_to(&self, later: &Self, execs: usize) -> Check {
        let counts = |row: &Self| {
            [
                row.shim.descriptors,
                row.shim.threads,
                row.shim.children,
                row.shim.zombies,
                row.shim.mounts,
                row.container_mounts,
                row.files,
            ]
        };
        let grown = counts(self)
            .iter()
            .zip(counts(later))
            .any(|(before, now)| now > *before);
        // Anonymous pages: shares of the binary's change with every other shim that starts or ends.
        if grown || later.shim.anonymous > self.shim.anonymous + GROWTH {
            return fail(format!(
                "after {execs} execs: {later}\nafter the first batch: {self}"
            ));
        }
        Ok(())
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = &self.shim;
        write!(
            f,
            "PSS {} kB, private dirty {} kB, anonymous {} kB, {} fds, {} threads, {} children, {} zombies, \
             {} mounts of the shim and {} of the container, {} files",
            s.pss,
            s.private_dirty,
            s.anonymous,
            s.descriptors,
            s.threads,
            s.children,
            s.zombies,
            s.mounts,
            self.container_mounts,
            self.files
        )
    }
}
