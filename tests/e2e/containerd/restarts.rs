//! Does containerd hear of every end exactly once, however often it is killed and started while hundreds of
//! containers live and some of them end?
//!
//! `RSRUN_RESTARTS="CONTAINERS RESTARTS POD"` makes it so many, POD of them in one shim (`make soak-restarts`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rsrun_tests::command::eventually;
use rsrun_tests::pace;
use rsrun_tests::proc;
use rsrun_tests::suite::{Case, Check, fail, skip};
use rsrun_tests::task::{INIT, Task, V2, V3};
use rsrun_tests::ttrpc::{Client, locked};

use crate::scene::Scene;

/// The daemon of these logs each event that it takes.
pub fn cases() -> Vec<Case<Scene>> {
    let scale = Scale::asked("2.4");
    let names = scale.containers * (scale.restarts + 10);
    vec![Case {
        name: "no_exit_is_lost_doubled_or_late_over_restarts_of_containerd",
        limit: Duration::from_secs(180)
            + Duration::from_millis(50) * u32::try_from(names).unwrap_or(u32::MAX),
        body: no_exit_is_lost_doubled_or_late,
    }]
}

#[derive(Clone, Copy)]
struct Scale {
    containers: usize,
    restarts: usize,
    /// Containers in one shim.
    pod: usize,
}

impl Scale {
    fn asked(line: &str) -> Self {
        let said = std::env::var("RSRUN_RESTARTS").unwrap_or_default();
        let numbers: Vec<usize> = said.split(' ').filter_map(|n| n.parse().ok()).collect();
        let (containers, restarts, pod) = match numbers[..] {
            [containers, restarts, pod] => (containers, restarts, pod),
            _ if line == "2.4" => (pace::fewer(100), 5, 2),
            _ => (30, 3, 2),
        };
        Self {
            containers,
            restarts,
            pod,
        }
    }
}

/// A line about what is under way, where somebody asked for a long run.
fn say(text: std::fmt::Arguments<'_>) {
    if std::env::var_os("RSRUN_RESTARTS").is_some() {
        println!("restarts: {text}");
    }
}

/// How long after containerd answers it may take until it has heard of all that ended without it.
const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// How long after its end the time of an exit may be.
const TIMELY: Duration = Duration::from_secs(2);
const HANDS: usize = 4;

/// A container that ends with its own code when it is sent SIGTERM.
#[derive(Clone, Debug)]
struct Alive {
    id: String,
    pod: String,
    pid: Pid,
    code: u32,
}

fn no_exit_is_lost_doubled_or_late(s: &Scene) -> Check {
    if s.is_runc() {
        return skip(
            "differs from runc: its shims list no process of an ended task, and 1.7 and later take them for leaked",
        );
    }
    let scale = Scale::asked(&s.containerd.line);
    let mut alive = begin(s, scale)?;
    let mut ended: BTreeMap<String, (Alive, SystemTime)> = BTreeMap::new();
    let pods: BTreeSet<&str> = alive.iter().map(|one| one.pod.as_str()).collect();
    say(format_args!(
        "{} containers run in {} shims",
        alive.len(),
        pods.len()
    ));
    drop(pods);
    for round in 0..scale.restarts {
        let share = (alive.len() / (scale.restarts - round + 2))
            .max(3)
            .min(alive.len());
        let mut ending = alive.split_off(alive.len() - share);
        let (while_loading, at_start) = (
            ending.split_off(share - share / 3),
            ending.split_off(ending.len() / 2),
        );
        let count = ended.len() + share;
        let took = restart(s, ending, at_start, while_loading, &mut ended)?;
        let answered = Instant::now();
        let heard = eventually("all exits are heard of", HEARD_WITHIN, || {
            s.containerd.forwarded("/tasks/exit") >= count
        });
        let late = answered.elapsed();
        let (told, listed) = (s.containerd.forwarded("/tasks/exit"), listed(s)?);
        say(format_args!(
            "{round}: containerd answered after {took:?}, had heard of {told} of {count} exits {late:?} later"
        ));
        heard?;
        assert_eq!(told, count, "exits told in round {round}");
        are_as_they_were(&listed, &alive, &ended)?;
    }
    // A doubled one may come late.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(s.containerd.forwarded("/tasks/exit"), ended.len());
    for (one, at) in ended.values() {
        has_its_own_exit(s, one, *at)?;
    }
    in_hands(ended.into_values().map(|(one, _)| one).collect(), |one| {
        let said = s.delete(&one.id)?;
        let code = format!("code {}", one.code);
        match said.stderr.contains(&code) {
            true => Ok(()),
            false => fail(format!("{} was deleted with {said:?}, not {code}", one.id)),
        }
    })?;
    in_hands(alive.clone(), |one| {
        let exec = s.exec(&one.id, "e", &["echo", &one.id])?.ok()?;
        assert_eq!(exec.stdout.trim_end(), one.id);
        s.remove(&one.id)
    })?;
    let shims: BTreeSet<String> = alive.into_iter().map(|one| one.pod).collect();
    shims
        .iter()
        .try_for_each(|pod| s.nothing_remains(pod, Duration::from_secs(10)))
}

/// All containers, running.
fn begin(s: &Scene, scale: Scale) -> Check<Vec<Alive>> {
    let ids: Vec<String> = (0..scale.containers).map(|_| s.id("r")).collect();
    // Every second pod is of one container, unless all are to be alone or together.
    let size = |pod: usize| {
        if scale.pod > 2 || pod.is_multiple_of(2) {
            scale.pod
        } else {
            1
        }
    };
    let mut wanted: Vec<Vec<(String, String, u32)>> = Vec::new();
    let mut left = &ids[..];
    while let Some(first) = left.first() {
        let (members, rest) = left.split_at(size(wanted.len()).min(left.len()));
        let numbered = members.iter().map(|id| {
            let code =
                1 + u32::try_from(ids.iter().position(|i| i == id).unwrap_or(0) % 120).unwrap_or(0);
            (id.clone(), first.clone(), code)
        });
        wanted.push(numbered.collect());
        left = rest;
    }
    // A pod's members one after the other, as the kubelet has it.
    in_hands(wanted.clone(), |members| {
        members.iter().try_for_each(|(id, pod, code)| {
            let script = format!("trap 'exit {code}' TERM; sleep 100000 & wait");
            let annotation = format!("io.kubernetes.cri.sandbox-id={pod}");
            let flags = ["-d", "--null-io", "--annotation", &annotation];
            s.run(&flags, id, &["sh", "-c", &script])?.ok()?;
            Ok(())
        })
    })?;
    let pids = listed(s)?;
    let found = |(id, pod, code): (String, String, u32)| match pids.get(&id) {
        Some((pid, status)) if status == "RUNNING" => Ok(Alive {
            id,
            pod,
            pid: Pid::from_raw(*pid),
            code,
        }),
        other => fail(format!("{id} is {other:?}")),
    };
    // Those of the pods' ends end first, so that some pods lose their first and some their last.
    let mut all = wanted
        .into_iter()
        .flatten()
        .map(found)
        .collect::<Check<Vec<_>>>()?;
    let half = all.len() / 2;
    all[..half].reverse();
    Ok(all)
}

/// One death and birth of containerd; how long it took to answer.
fn restart(
    s: &Scene,
    while_down: Vec<Alive>,
    at_start: Vec<Alive>,
    while_loading: Vec<Alive>,
    ended: &mut BTreeMap<String, (Alive, SystemTime)>,
) -> Check<Duration> {
    let end = |one: Alive| -> Check<(Alive, SystemTime)> {
        kill(one.pid, Signal::SIGTERM)?;
        Ok((one, SystemTime::now()))
    };
    s.containerd.kill()?;
    let mut over = while_down.into_iter().map(end).collect::<Check<Vec<_>>>()?;
    for (one, _) in &over {
        eventually("it has ended", Duration::from_secs(10), || {
            !proc::is_alive(one.pid)
        })?;
    }
    let began = Instant::now();
    let took = std::thread::scope(|scope| -> Check<Duration> {
        let ending = scope.spawn(move || -> Check<Vec<_>> {
            let mut over = at_start.into_iter().map(end).collect::<Check<Vec<_>>>()?;
            for one in while_loading {
                std::thread::sleep(Duration::from_millis(30));
                over.push(end(one)?);
            }
            Ok(over)
        });
        s.containerd.launch()?;
        let took = began.elapsed();
        over.extend(ending.join().map_err(|_| "the ending thread panicked")??);
        Ok(took)
    })?;
    ended.extend(
        over.into_iter()
            .map(|(one, at)| (one.id.clone(), (one, at))),
    );
    Ok(took)
}

/// Every task is listed, with its own pid and the status that it must have.
fn are_as_they_were(
    listed: &BTreeMap<String, (i32, String)>,
    alive: &[Alive],
    ended: &BTreeMap<String, (Alive, SystemTime)>,
) -> Check {
    let running = alive.iter().map(|one| (one, "RUNNING"));
    let stopped = ended.values().map(|(one, _)| (one, "STOPPED"));
    let wrong: Vec<String> = running
        .chain(stopped)
        .filter(|(one, status)| listed.get(&one.id) != Some(&(one.pid.as_raw(), (*status).into())))
        .map(|(one, status)| format!("{one:?}: {:?} instead of {status}", listed.get(&one.id)))
        .collect();
    match wrong.len() {
        0 => Ok(()),
        n => fail(format!(
            "{n} tasks are not as they were: {}",
            wrong[..n.min(10)].join("\n")
        )),
    }
}

/// Its shim says how and when it ended.
fn has_its_own_exit(s: &Scene, one: &Alive, sent: SystemTime) -> Check {
    let client = Arc::new(Client::connect(&s.containerd.socket(&one.pod))?);
    let service = if s.containerd.line == "2.4" { V3 } else { V2 };
    let task = Task {
        client,
        service,
        id: one.id.clone(),
        bundle: s.containerd.bundle(&one.id),
    };
    let state = task.state(INIT)?;
    let at = UNIX_EPOCH
        + Duration::new(
            state.exited_at.seconds.try_into()?,
            state.exited_at.nanos.try_into()?,
        );
    let timely = at + Duration::from_millis(50) > sent && at < sent + pace::patient(TIMELY);
    if state.exit_status == one.code && timely {
        return Ok(());
    }
    fail(format!(
        "{one:?} was ended at {sent:?}; its shim says {state:?}"
    ))
}

/// Id → pid and status, of all tasks.
fn listed(s: &Scene) -> Check<BTreeMap<String, (i32, String)>> {
    let table = s.task(&["ls"])?.ok()?.stdout;
    let mut all = BTreeMap::new();
    for row in table.lines().skip(1) {
        let mut fields = row.split_whitespace();
        if let (Some(id), Some(pid), Some(status)) = (fields.next(), fields.next(), fields.next()) {
            all.insert(id.to_string(), (pid.parse()?, status.to_string()));
        }
    }
    Ok(all)
}

/// Does `act` with each of `all`, a few at a time.
fn in_hands<T: Clone + Send + Sync>(all: Vec<T>, act: impl Fn(&T) -> Check + Sync) -> Check {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Ok(()));
    std::thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(stop) = act(one) {
                        *locked(&failed) = Err(stop);
                        next.store(all.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(|e| e.into_inner())
}
