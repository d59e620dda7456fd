//! containerd takes the connection and says nothing, for a minute.

use std::fs;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use rsrun_tests::by_hand::ByHand;
use rsrun_tests::cases;
use rsrun_tests::command::eventually;
use rsrun_tests::events::What;
use rsrun_tests::pace::patient;
use rsrun_tests::suite::{Case, Check, fail};
use rsrun_tests::task::{INIT, Streams};

const SILENT_FOR: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_secs(2);
/// No call waits for containerd.
const CALL: Duration = Duration::from_secs(1);

/// One minute.
pub fn cases() -> Vec<Case<ByHand>> {
    cases![240 s: a_containerd_that_is_silent_for_a_minute_gets_everything_after_it]
}

fn a_containerd_that_is_silent_for_a_minute_gets_everything_after_it(s: &ByHand) -> Check {
    let keeper = s.running("keeper", &["sleep", "1000"])?;
    s.events
        .expect("keeper", "start", |w| matches!(w, What::Start { .. }))?;
    s.events.close();
    let path = s.address().with_extension("sock.ttrpc");
    let listener = UnixListener::bind(&path)?;
    // Taken, kept and never read.
    let taken = std::thread::spawn(move || {
        let mut connections = Vec::new();
        let until = Instant::now() + SILENT_FOR;
        listener.set_nonblocking(true)?;
        while Instant::now() < until {
            connections.extend(listener.accept());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok::<usize, std::io::Error>(connections.len())
    });
    let mut lives = 0;
    while !taken.is_finished() {
        let begin = Instant::now();
        let id = format!("life-{lives}");
        s.prepare(&id, &s.spec(&id, &["sleep", "1000"]))?;
        let task = s.task_on(keeper.client.clone(), &id);
        timed("Create", || task.create(&s.rootfs(), &Streams::default()))?;
        timed("Start", || task.start(INIT))?;
        timed("Exec", || task.exec("e", &["true"], &Streams::default()))?;
        timed("Start of the exec", || task.start("e"))?;
        timed("Wait", || task.wait("e"))?;
        timed("Delete of the exec", || task.delete("e"))?;
        timed("Kill", || task.kill(INIT, libc::SIGKILL))?;
        timed("Wait of the init", || task.wait(INIT))?;
        timed("Delete", || task.delete(INIT))?;
        lives += 1;
        std::thread::sleep(patient(EVERY).saturating_sub(begin.elapsed()));
    }
    let connections = taken.join().map_err(|_| "the silent end panicked")??;
    if connections == 0 {
        return fail("nobody ever connected: it was not the silence that was tried");
    }
    fs::remove_file(&path)?;
    s.events.reopen()?;
    for life in 0..lives {
        let id = format!("life-{life}");
        let told = || s.events.of(&id).iter().map(kind).collect::<Vec<_>>();
        let expected = [
            "create", "start", "added", "started", "exit e", "exit", "delete",
        ];
        let arrived = || {
            let mut told = told();
            // Of an exec's Delete there is no event.
            told.retain(|kind| *kind != "delete e");
            told == expected
        };
        eventually("all events", Duration::from_secs(20), arrived)
            .or_else(|_| fail(format!("{id}: {:?}", told())))?;
    }
    println!("{lives} lives, {connections} connections while nobody answered");
    keeper.kill(INIT, libc::SIGKILL)?;
    assert_eq!(keeper.wait(INIT)?.status, 137);
    keeper.delete(INIT)?;
    let _ = keeper.shutdown();
    Ok(())
}

fn timed<T, E: std::error::Error + 'static>(
    name: &str,
    call: impl FnOnce() -> Result<T, E>,
) -> Check<T> {
    let begin = Instant::now();
    let result = call()?;
    match begin.elapsed() < patient(CALL) {
        true => Ok(result),
        false => fail(format!("{name} took {:?}", begin.elapsed())),
    }
}

fn kind(event: &What) -> &'static str {
    match event {
        What::Create { .. } => "create",
        What::Start { .. } => "start",
        What::ExecAdded { .. } => "added",
        What::ExecStarted { .. } => "started",
        What::Exit { id, process, .. } if id == process => "exit",
        What::Exit { .. } => "exit e",
        What::Delete { exec, .. } if exec.is_empty() => "delete",
        What::Delete { .. } => "delete e",
        What::Oom { .. } | What::Paused { .. } | What::Resumed { .. } | What::Other(_) => "other",
    }
}
