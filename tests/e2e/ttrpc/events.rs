//! What events say, and what becomes of them when nobody listens.

use std::time::{Duration, Instant};

use rsrun_tests::by_hand::ByHand;
use rsrun_tests::command::eventually;
use rsrun_tests::events::What;
use rsrun_tests::pace::patient;
use rsrun_tests::suite::{Case, Check, fail, skip};
use rsrun_tests::task::{INIT, Streams};

/// Run in one manner only: how a shim was started makes no difference to them.
pub fn cases() -> Vec<Case<ByHand>> {
    rsrun_tests::cases![
        60 s: events_carry_what_consumers_read, an_exec_that_fails_to_start_has_no_exit,
            events_wait_for_a_containerd_that_is_down, a_silent_containerd_delays_no_call,
            a_failed_create_tells_nothing, an_oom_is_told_before_its_exit;
    ]
}

fn events_carry_what_consumers_read(s: &ByHand) -> Check {
    let task = s.running("fields", &["sleep", "1000"])?;
    let pid = task.state(INIT)?.pid;
    task.kill(INIT, 15)?;
    task.kill(INIT, 9)?;
    let exit = task.wait(INIT)?;
    task.delete(INIT)?;
    s.events
        .expect("fields", "delete", |w| matches!(w, What::Delete { .. }))?;
    let bundle = s.bundle("fields").display().to_string();
    let id = "fields".to_string();
    assert_eq!(
        s.events.of("fields"),
        [
            What::Create {
                id: id.clone(),
                pid,
                bundle,
                stdout: String::new()
            },
            What::Start {
                id: id.clone(),
                pid
            },
            What::Exit {
                id: id.clone(),
                process: id.clone(),
                pid,
                status: exit.status,
                at: exit.at
            },
            What::Delete {
                id,
                exec: String::new(),
                pid,
                status: exit.status
            },
        ]
    );
    for event in s.events.all() {
        assert_eq!(event.envelope.namespace, s.ctr_ns());
        assert!(
            event.has_metadata && event.envelope.timestamp.is_some(),
            "{event:?}"
        );
        let kind = &event.envelope.event.type_url;
        assert!(kind.starts_with("containerd.events.Task"), "{kind}");
    }
    Ok(())
}

fn an_exec_that_fails_to_start_has_no_exit(s: &ByHand) -> Check {
    let task = s.running("failing", &["sleep", "1000"])?;
    task.exec("bad", &["nosuchprogram"], &Streams::default())?;
    task.start("bad")
        .err()
        .ok_or("a missing program was started")?;
    task.delete("bad")?;
    task.exec("good", &["true"], &Streams::default())?;
    task.start("good")?;
    task.wait("good")?;
    s.events.expect(
        "failing",
        "exit",
        |w| matches!(w, What::Exit { process, .. } if process == "good"),
    )?;
    let about_bad = |w: &&What| match w {
        What::ExecStarted { exec, .. } => exec == "bad",
        What::Exit { process, .. } => process == "bad",
        _ => false,
    };
    let events = s.events.of("failing");
    assert_eq!(events.iter().find(about_bad), None);
    Ok(())
}

fn events_wait_for_a_containerd_that_is_down(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip(
            "differs from runc: it reorders what it sends again, and drops it after five tries",
        );
    }
    let task = s.running("downtime", &["sleep", "1000"])?;
    s.events
        .expect("downtime", "start", |w| matches!(w, What::Start { .. }))?;
    s.events.close();
    for n in 0..10 {
        let exec = format!("e{n}");
        task.exec(&exec, &["true"], &Streams::default())?;
        task.start(&exec)?;
        task.wait(&exec)?;
        std::thread::sleep(Duration::from_millis(200));
    }
    s.events.reopen()?;
    eventually("all have arrived", Duration::from_secs(20), || {
        s.events
            .of("downtime")
            .iter()
            .filter(|w| matches!(w, What::Exit { .. }))
            .count()
            >= 10
    })
    .or_else(|_| fail(format!("{:?}", s.events.of("downtime"))))?;
    let order: Vec<String> = s
        .events
        .of("downtime")
        .iter()
        .filter_map(|w| match w {
            What::ExecAdded { exec, .. } => Some(format!("added {exec}")),
            What::ExecStarted { exec, .. } => Some(format!("started {exec}")),
            What::Exit { process, .. } => Some(format!("exit {process}")),
            _ => None,
        })
        .collect();
    let expected: Vec<String> = (0..10)
        .flat_map(|n| {
            [
                format!("added e{n}"),
                format!("started e{n}"),
                format!("exit e{n}"),
            ]
        })
        .collect();
    assert_eq!(order, expected);
    Ok(())
}

fn a_silent_containerd_delays_no_call(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: its queue of 128 events fills, and then every call waits");
    }
    let task = s.fresh("silent", &["sleep", "1000"])?;
    // Something that accepts and never answers.
    s.events.close();
    let path = s.address().with_extension("sock.ttrpc");
    let listener = std::os::unix::net::UnixListener::bind(&path)?;
    let begin = Instant::now();
    task.create(&s.rootfs(), &Streams::default())?;
    task.start(INIT)?;
    for n in 0..60 {
        let exec = format!("e{n}");
        task.exec(&exec, &["true"], &Streams::default())?;
        task.start(&exec)?;
        task.wait(&exec)?;
        task.delete(&exec)?;
    }
    task.kill(INIT, 9)?;
    task.wait(INIT)?;
    task.delete(INIT)?;
    let asked = Instant::now();
    let _ = task.shutdown();
    assert!(
        asked.elapsed() < patient(Duration::from_secs(2)),
        "shutdown took {:?}",
        asked.elapsed()
    );
    assert!(
        begin.elapsed() < patient(Duration::from_secs(10)),
        "{:?}",
        begin.elapsed()
    );
    drop(listener);
    Ok(())
}

fn a_failed_create_tells_nothing(s: &ByHand) -> Check {
    let keeper = s.running("keeper", &["sleep", "1000"])?;
    s.prepare("failed", &s.spec("failed", &["nosuchprogram"]))?;
    let task = s.task_on(keeper.client.clone(), "failed");
    let refusal = task
        .create(&s.rootfs(), &Streams::default())
        .err()
        .ok_or("it was created")?;
    assert!(
        refusal
            .to_string()
            .contains("executable file not found in $PATH"),
        "{refusal}"
    );
    assert!(task.delete(INIT).is_err());
    s.nothing_remains("failed")?;
    // The id is free at once.
    s.prepare("failed", &s.spec("failed", &["true"]))?;
    task.create(&s.rootfs(), &Streams::default())?;
    task.start(INIT)?;
    assert_eq!(task.wait(INIT)?.status, 0);
    task.delete(INIT)?;
    s.events
        .expect("failed", "delete", |w| matches!(w, What::Delete { .. }))?;
    let events = s.events.of("failed");
    assert!(
        events.len() == 4 && matches!(events[0], What::Create { .. }),
        "{events:?}"
    );
    Ok(())
}

fn an_oom_is_told_before_its_exit(s: &ByHand) -> Check {
    if !rsrun_tests::ground::has_controllers() {
        return skip("needs the memory controller on cgroup v2");
    }
    for round in 0..5 {
        let id = format!("oom-{round}");
        let mut spec = s.spec(&id, &["sh", "-c", "x=a; while :; do x=$x$x; done"]);
        spec["linux"]["resources"] =
            serde_json::json!({"memory": {"limit": 20 << 20, "swap": 20 << 20}});
        s.prepare(&id, &spec)?;
        let task = s.task(&s.start(&id)?, &id)?;
        task.create(&s.rootfs(), &Streams::default())?;
        task.start(INIT)?;
        assert_eq!(task.wait(INIT)?.status, 137);
        s.events
            .expect(&id, "exit", |w| matches!(w, What::Exit { .. }))?;
        let events = s.events.of(&id);
        let at = |fits: fn(&What) -> bool| events.iter().position(fits);
        let (oom, exit) = (
            at(|w| matches!(w, What::Oom { .. })),
            at(|w| matches!(w, What::Exit { .. })),
        );
        // The reference reads the counter in another thread than it reaps.
        assert!(
            s.places.is_runc() || (oom.is_some() && oom < exit),
            "{events:?}"
        );
        task.delete(INIT)?;
    }
    Ok(())
}
