//! Calls that last, and calls at the same time: nobody waits for another container.

use std::sync::Arc;
use std::time::{Duration, Instant};

use containerd_shim_protos::api;
use rsrun_tests::by_hand::{ByHand, Manner};
use rsrun_tests::command::eventually;
use rsrun_tests::fifo;
use rsrun_tests::pace::patient;
use rsrun_tests::suite::{Case, Check, fail, skip};
use rsrun_tests::task::{Exit, INIT, Streams, Task};
use rsrun_tests::ttrpc::{Answer, Client};
use serde_json::json;
use ttrpc::Code;

pub fn cases() -> Vec<Case<ByHand>> {
    rsrun_tests::cases![
        60 s: many_waiters_get_the_same_exit, a_wait_that_times_out_changes_nothing,
            a_waiter_is_answered_however_delete_races, deletes_at_once_end_in_one_deletion,
            a_closed_connection_leaves_the_others_alone, kill_of_a_created_init_ends_it,
            signals_reach_execs_and_inits_alone, creates_stuck_in_hooks_delay_nobody,
            a_create_stuck_in_a_hook_can_be_killed,
            the_shim_s_delete_ends_a_create_that_hangs,
            execs_that_nobody_reads_hold_up_nobody;
        120 s: delete_goes_on_when_its_client_has_gone, short_lives_tell_their_pid_and_exit;
    ]
}

fn connected(s: &ByHand, task: &Task) -> Check<Task> {
    let socket = rsrun_tests::containerd::socket_name(&s.address(), s.ctr_ns(), &task.id);
    let client =
        Client::connect(&std::path::Path::new(rsrun_tests::containerd::SOCKETS).join(socket))?;
    Ok(s.task_on(Arc::new(client), &task.id))
}

fn many_waiters_get_the_same_exit(s: &ByHand) -> Check {
    let task = s.running("waiters", &["sh", "-c", "sleep 1; exit 17"])?;
    let others = [connected(s, &task)?, connected(s, &task)?];
    let exits: Vec<Answer<Exit>> = std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..40)
            .map(|n| {
                let task = match n % 3 {
                    0 => &task,
                    1 => &others[0],
                    _ => &others[1],
                };
                scope.spawn(|| task.wait(INIT))
            })
            .collect();
        waiting.into_iter().filter_map(|w| w.join().ok()).collect()
    });
    let first = exits[0].clone()?;
    assert_eq!((exits.len(), first.status), (40, 17));
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs()
        .try_into()?;
    assert!(
        first.at.is_some_and(|at| (now - 30..=now).contains(&at)),
        "{first:?}"
    );
    for exit in exits {
        assert_eq!(exit?, first);
    }
    // Too late is the same as in time.
    assert_eq!(task.wait(INIT)?, first);
    assert_eq!(task.delete(INIT)?.1, first);
    Ok(())
}

fn a_wait_that_times_out_changes_nothing(s: &ByHand) -> Check {
    if s.places.is_runc() && s.manner == Manner::Legacy {
        return skip("differs from runc: 1.6's Wait knows no time limit");
    }
    let task = s.running("patience", &["sleep", "1000"])?;
    let begin = Instant::now();
    let refusal = task
        .wait_within(INIT, Duration::from_millis(300))
        .err()
        .ok_or("a wait ended early")?;
    assert!(
        begin.elapsed() < patient(Duration::from_secs(5)),
        "{:?}",
        begin.elapsed()
    );
    assert!(
        matches!(
            refusal.code(),
            Some(Code::DEADLINE_EXCEEDED | Code::CANCELLED | Code::UNKNOWN)
        ),
        "{refusal:?}"
    );
    task.kill(INIT, 15)?;
    // sleep is the namespace's init: without a handler a signal from inside is
    // ignored, but not one from outside that ends it for sure.
    task.kill(INIT, 9)?;
    assert!([137, 143].contains(&task.wait(INIT)?.status));
    Ok(())
}

fn a_waiter_is_answered_however_delete_races(s: &ByHand) -> Check {
    let keeper = s.running("keeper", &["sleep", "1000"])?;
    for round in 0..20 {
        let id = format!("race-{round}");
        s.prepare(&id, &s.spec(&id, &["sh", "-c", "exit 3"]))?;
        let task = s.task_on(keeper.client.clone(), &id);
        task.create(&s.rootfs(), &Streams::default())?;
        let early: Vec<Answer<Exit>> = std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| task.wait(INIT))).collect();
            // They are in before the process is even started; a connection keeps its order.
            while task.client.in_flight() < 4 {
                std::thread::yield_now();
            }
            let deleted = task.start(INIT).map(|_| {
                while task.delete(INIT).is_err() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let answers = waiting.into_iter().filter_map(|w| w.join().ok()).collect();
            deleted.map(|()| answers)
        })?;
        for exit in early {
            assert_eq!(exit?.status, 3, "round {round}");
        }
    }
    Ok(())
}

fn deletes_at_once_end_in_one_deletion(s: &ByHand) -> Check {
    let keeper = s.running("keeper", &["sleep", "1000"])?;
    for round in 0..10 {
        let id = format!("delete-{round}");
        s.prepare(&id, &s.spec(&id, &["true"]))?;
        let task = s.task_on(keeper.client.clone(), &id);
        task.create(&s.rootfs(), &Streams::default())?;
        task.start(INIT)?;
        task.wait(INIT)?;
        let answers: Vec<Answer<_>> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| task.delete(INIT))).collect();
            all.into_iter().filter_map(|t| t.join().ok()).collect()
        });
        let good = answers.iter().filter(|a| a.is_ok()).count();
        let gone = answers
            .iter()
            .filter(|a| a.as_ref().is_err_and(|r| r.code() == Some(Code::NOT_FOUND)))
            .count();
        let sound = good >= 1 && (good + gone == 4 || s.places.is_runc());
        assert!(sound, "{answers:?}");
        s.nothing_remains(&id)?;
        let deleted =
            |w: &rsrun_tests::events::What| matches!(w, rsrun_tests::events::What::Delete { .. });
        s.events.expect(&id, "delete", deleted)?;
        if !s.places.is_runc() {
            assert_eq!(s.events.of(&id).iter().filter(|w| deleted(w)).count(), 1);
        }
    }
    Ok(())
}

fn a_closed_connection_leaves_the_others_alone(s: &ByHand) -> Check {
    let task = s.running("lines", &["sleep", "1000"])?;
    let other = connected(s, &task)?;
    let waiting = other.clone();
    let waiter = std::thread::spawn(move || waiting.wait(INIT));
    for _ in 0..20 {
        let gone = connected(s, &task)?;
        gone.state(INIT)?;
    }
    assert!(!waiter.is_finished());
    task.kill(INIT, 9)?;
    let exit = waiter.join().map_err(|_| "the waiter panicked")??;
    assert_eq!(exit.status, 137);
    Ok(())
}

fn kill_of_a_created_init_ends_it(s: &ByHand) -> Check {
    let task = s.fresh("parked", &["sleep", "1000"])?;
    task.create(&s.rootfs(), &Streams::default())?;
    task.kill(INIT, 9)?;
    assert_eq!(task.wait(INIT)?.status, 137);
    assert_eq!(task.status(INIT)?, api::Status::STOPPED);
    task.delete(INIT)?;
    s.nothing_remains("parked")
}

fn signals_reach_execs_and_inits_alone(s: &ByHand) -> Check {
    let task = s.running(
        "signals",
        &[
            "sh",
            "-c",
            "trap 'exit 21' USR1; while :; do sleep 0.05; done",
        ],
    )?;
    task.exec(
        "e",
        &[
            "sh",
            "-c",
            "trap 'exit 22' USR1; while :; do sleep 0.05; done",
        ],
        &Streams::default(),
    )?;
    task.start("e")?;
    std::thread::sleep(Duration::from_millis(500));
    task.kill("e", 0)?;
    task.kill("e", 10)?;
    assert_eq!(task.wait("e")?.status, 22);
    assert_eq!(task.status(INIT)?, api::Status::RUNNING);
    task.kill(INIT, 10)?;
    assert_eq!(task.wait(INIT)?.status, 21);
    Ok(())
}

/// A container whose createRuntime hook sleeps.
fn stuck(s: &ByHand, client: Arc<Client>, id: &str, seconds: u32) -> Check<Task> {
    let mut spec = s.spec(id, &["sleep", "1000"]);
    spec["hooks"] =
        json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", seconds.to_string()]}]});
    s.prepare(id, &spec)?;
    Ok(s.task_on(client, id))
}

fn creates_stuck_in_hooks_delay_nobody(s: &ByHand) -> Check {
    if s.places.is_runc() && s.manner == Manner::Legacy {
        return skip("differs from runc: 1.6's shim holds its lock over Create");
    }
    let sibling = s.running("sibling", &["sleep", "1000"])?;
    let mut tasks = Vec::new();
    for n in 0..4 {
        tasks.push(stuck(s, sibling.client.clone(), &format!("stuck-{n}"), 4)?);
    }
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let creating: Vec<_> = tasks
            .iter()
            .map(|t| scope.spawn(|| t.create(&s.rootfs(), &Streams::default())))
            .collect();
        let begin = Instant::now();
        let mut times = Vec::new();
        std::thread::sleep(Duration::from_millis(300));
        while begin.elapsed() < Duration::from_secs(3) {
            for call in [
                |t: &Task| t.state(INIT).map(drop),
                |t: &Task| t.kill(INIT, 0),
            ] {
                let asked = Instant::now();
                call(&sibling)?;
                times.push(asked.elapsed());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let asked = Instant::now();
        sibling.exec("e", &["true"], &Streams::default())?;
        sibling.start("e")?;
        assert_eq!(sibling.wait("e")?.status, 0);
        assert!(
            asked.elapsed() < patient(Duration::from_millis(700)),
            "exec took {:?}",
            asked.elapsed()
        );
        for one in creating {
            one.join().map_err(|_| "a create panicked")??;
        }
        Check::Ok(times)
    })?;
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    assert!(
        p99 <= patient(Duration::from_millis(50)),
        "p99 {p99:?} of {} calls",
        times.len()
    );
    Ok(())
}

/// How long `end` and the failure of the stuck create that it ends have taken.
fn given_up(s: &ByHand, task: &Task, end: impl FnOnce() -> Check) -> Check<Duration> {
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| task.create(&s.rootfs(), &Streams::default()));
        std::thread::sleep(Duration::from_millis(500));
        let begin = Instant::now();
        end()?;
        let answer = creating.join().map_err(|_| "the create panicked")?;
        assert!(answer.is_err(), "{answer:?}");
        Ok(begin.elapsed())
    })
}

fn a_create_stuck_in_a_hook_can_be_killed(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip(
            "differs from runc: its shim does not know a container before Create has ended",
        );
    }
    let sibling = s.running("sibling", &["sleep", "1000"])?;
    let task = stuck(s, sibling.client.clone(), "stuck", 600)?;
    let took = given_up(s, &task, || Ok(task.kill(INIT, 9)?))?;
    assert!(took < patient(Duration::from_secs(3)), "{took:?}");
    let _ = task.delete(INIT);
    s.nothing_remains("stuck")
}

fn the_shim_s_delete_ends_a_create_that_hangs(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: its hook goes on");
    }
    let sibling = s.running("sibling", &["sleep", "1000"])?;
    let task = stuck(s, sibling.client.clone(), "stuck", 600)?;
    let took = given_up(s, &task, || s.delete("stuck").map(drop))?;
    assert!(took < patient(Duration::from_secs(4)), "{took:?}");
    assert_eq!(sibling.status(INIT)?, api::Status::RUNNING);
    s.nothing_remains("stuck")
}

/// More than are started at once.
const UNREAD: usize = 40;

fn execs_that_nobody_reads_hold_up_nobody(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: its shim waits for ever");
    }
    let task = s.running("unread", &["sleep", "1000"])?;
    let streams = |n: usize| -> Check<Streams> {
        let stdout = fifo::make(s.directory(), &format!("unread-{n}"))?;
        let stdout = stdout.display().to_string();
        Ok(Streams {
            stdout,
            ..Streams::default()
        })
    };
    for n in 0..UNREAD {
        task.exec(&format!("e{n}"), &["true"], &streams(n)?)?;
    }
    std::thread::scope(|scope| {
        let starting: Vec<_> = (0..UNREAD)
            .map(|n| (n, task.clone()))
            .map(|(n, task)| scope.spawn(move || task.start(&format!("e{n}"))))
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        let begin = Instant::now();
        task.exec("healthy", &["true"], &Streams::default())?;
        task.start("healthy")?;
        assert_eq!(task.wait("healthy")?.status, 0);
        task.kill(INIT, 9)?;
        assert_eq!(task.wait(INIT)?.status, 137);
        let took = begin.elapsed();
        assert!(took < patient(Duration::from_secs(2)), "{took:?}");
        for one in starting {
            let answer = one.join().map_err(|_| "a start panicked")?;
            assert!(answer.is_err(), "{answer:?}");
        }
        assert!(begin.elapsed() < patient(Duration::from_secs(4)));
        Check::Ok(())
    })?;
    task.delete(INIT)?;
    s.nothing_remains("unread")
}

fn delete_goes_on_when_its_client_has_gone(s: &ByHand) -> Check {
    let task = s.running("held", &["sleep", "1000"])?;
    let (out, err) = (
        fifo::make(s.directory(), "out")?,
        fifo::make(s.directory(), "err")?,
    );
    let mut reader = fifo::Reader::open(&out, Duration::from_secs(40))?;
    let _errors = fifo::Reader::open(&err, Duration::from_secs(40))?;
    let streams = Streams {
        stdout: out.display().to_string(),
        stderr: err.display().to_string(),
        ..Default::default()
    };
    // A grandchild keeps the pipe, so that Delete has to wait for its ten seconds.
    task.exec("e", &["sh", "-c", "sleep 300 & echo said"], &streams)?;
    task.start("e")?;
    task.wait("e")?;

    let hasty = connected(s, &task)?;
    let begin = Instant::now();
    let asked = hasty.clone();
    std::thread::spawn(move || asked.delete("e"));
    std::thread::sleep(Duration::from_millis(500));
    drop(hasty);
    let lasting = connected(s, &task)?;
    match lasting.delete("e") {
        Ok((_, exit)) => assert_eq!(exit.status, 0),
        Err(r) if r.code() == Some(Code::NOT_FOUND) && begin.elapsed() > Duration::from_secs(8) => {
        }
        // differs from runc: 1.6's drains for two seconds.
        Err(r) if r.code() == Some(Code::NOT_FOUND) && s.places.is_runc() => {}
        Err(r) => return fail(format!("{r} after {:?}", begin.elapsed())),
    }
    assert!(
        begin.elapsed() < patient(Duration::from_secs(25)),
        "{:?}",
        begin.elapsed()
    );
    // What was said arrives, and then the end, though the grandchild lives on.
    assert_eq!(reader.all()?, b"said\n");
    assert_eq!(task.status(INIT)?, api::Status::RUNNING);
    task.exec("e", &["true"], &Streams::default())?;
    Ok(())
}

fn short_lives_tell_their_pid_and_exit(s: &ByHand) -> Check {
    let task = s.running("short", &["sleep", "1000"])?;
    for round in 0..100 {
        let id = format!("e{round}");
        task.exec(
            &id,
            &["sh", "-c", &format!("exit {round}")],
            &Streams::default(),
        )?;
        let pid = task.start(&id)?;
        assert!(pid > 1, "round {round}");
        let state = task.state(&id)?;
        assert_eq!(state.pid, pid, "round {round}");
        assert_eq!(task.wait(&id)?.status, round);
        let (deleted, exit) = task.delete(&id)?;
        assert_eq!((deleted, exit.status), (pid, round));
    }
    let shim = task.connect()?.0;
    let count = || {
        std::fs::read_dir(format!("/proc/{shim}/fd"))
            .map(Iterator::count)
            .unwrap_or_default()
    };
    let before = count();
    for round in 0..20 {
        let id = format!("f{round}");
        task.exec(&id, &["true"], &Streams::default())?;
        task.start(&id)?;
        task.wait(&id)?;
        task.delete(&id)?;
    }
    if !s.places.is_runc() {
        eventually("no descriptor stays", Duration::from_secs(5), || {
            count() <= before
        })?;
    }
    Ok(())
}
