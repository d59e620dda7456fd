//! How a shim ends: `delete` after a crash or beside it, Shutdown, SIGTERM.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use rsrun_tests::by_hand::{ByHand, Manner, Started};
use rsrun_tests::command::eventually;
use rsrun_tests::containerd::{SOCKETS, socket_name};
use rsrun_tests::pace::patient;
use rsrun_tests::proc;
use rsrun_tests::suite::{Case, Check, fail, skip};
use rsrun_tests::task::{INIT, Streams, Task};

use crate::binary::{FIVE_SECONDS, prepared, serving, shim_of};

pub fn cases() -> Vec<Case<ByHand>> {
    rsrun_tests::cases![
        60 s: delete_after_a_crash_ends_what_runs, delete_after_a_crash_tells_the_recorded_exit,
            delete_of_what_never_was_succeeds, delete_beside_a_living_shim_leaves_it_alone,
            shutdown_without_containers_ends_the_shim, shutdown_with_containers_is_remembered,
            the_end_does_not_overtake_an_answer, a_pod_goes_with_what_its_members_creates_left,
            sigterm_ends_the_shim_and_removes_its_socket, of_a_namespace_without_containers_no_directory_stays;
    ]
}

/// A running container whose shim is then killed.
fn orphaned(s: &ByHand, id: &str, args: &[&str]) -> Check<Task> {
    s.prepare(id, &s.spec(id, args))?;
    let started = s.start(id)?;
    let task = s.task(&started, id)?;
    task.create(&s.rootfs(), &Streams::default())?;
    task.start(INIT)?;
    Ok(task)
}

/// Two containers that run in one shim, and what its `start` told.
fn running_pod(s: &ByHand) -> Check<(Started, Task, Task)> {
    prepared(s, "pause", "pod")?;
    prepared(s, "work", "pod")?;
    let started = s.start("pause")?;
    let pause = s.task(&started, "pause")?;
    let work = s.task(&s.start("work")?, "work")?;
    for task in [&pause, &work] {
        task.create(&s.rootfs(), &Streams::default())?;
        task.start(INIT)?;
    }
    Ok((started, pause, work))
}

fn delete_after_a_crash_ends_what_runs(s: &ByHand) -> Check {
    let task = orphaned(
        s,
        "crashed",
        &["sh", "-c", "sleep 1000 & sleep 1000 & wait"],
    )?;
    let pid = task.state(INIT)?.pid;
    kill(shim_of(&task)?, Signal::SIGKILL)?;
    eventually("it has ended", FIVE_SECONDS, || serving(s).is_empty())?;
    let (answer, outcome) = s.delete("crashed")?;
    assert_eq!((answer.pid, answer.exit_status), (pid, 137));
    assert!(answer.exited_at.is_some());
    s.nothing_remains("crashed")?;
    if !s.places.is_runc() {
        assert_eq!(outcome.stderr, "");
        // Again, with nothing left: the same and no complaint.
        let (answer, outcome) = s.delete("crashed")?;
        assert_eq!((answer.exit_status, outcome.stderr.as_str()), (137, ""));
        assert!(
            !Path::new(SOCKETS)
                .join(socket_name(&s.address(), s.ctr_ns(), "crashed"))
                .exists()
        );
    }
    Ok(())
}

fn delete_after_a_crash_tells_the_recorded_exit(s: &ByHand) -> Check {
    if s.places.is_runc() && s.manner == Manner::Legacy {
        return skip("differs from runc: 1.6 knows only 137");
    }
    let task = orphaned(s, "recorded", &["sh", "-c", "exit 23"])?;
    let exit = task.wait(INIT)?;
    assert_eq!(exit.status, 23);
    kill(shim_of(&task)?, Signal::SIGKILL)?;
    eventually("it has ended", FIVE_SECONDS, || serving(s).is_empty())?;
    let (answer, _) = s.delete("recorded")?;
    assert_eq!(answer.exit_status, 23);
    assert_eq!(answer.exited_at.as_ref().map(|t| t.seconds), exit.at);
    s.nothing_remains("recorded")
}

fn delete_of_what_never_was_succeeds(s: &ByHand) -> Check {
    if s.places.is_runc() && s.manner == Manner::Legacy {
        return skip("differs from runc: 1.6 wants a file that its own start wrote");
    }
    s.prepare("never", &s.spec("never", &["true"]))?;
    let (answer, outcome) = s.delete("never")?;
    assert_eq!((answer.pid, answer.exit_status), (0, 137));
    if s.places.is_runc() {
        return Ok(());
    }
    assert_eq!(outcome.stderr, "");
    std::fs::remove_file(s.bundle("never").join("config.json"))?;
    let (answer, outcome) = s.delete("never")?;
    assert_eq!((answer.exit_status, outcome.stderr.as_str()), (137, ""));
    Ok(())
}

fn delete_beside_a_living_shim_leaves_it_alone(s: &ByHand) -> Check {
    let (started, pause, work) = running_pod(s)?;
    // As after every normal deletion: the container is gone, its shim is not.
    work.kill(INIT, 9)?;
    work.wait(INIT)?;
    work.delete(INIT)?;
    work.shutdown()?;
    let begin = Instant::now();
    let (_, outcome) = s.delete("work")?;
    let took = begin.elapsed();
    if !s.places.is_runc() {
        assert_eq!(outcome.stderr, "");
        assert!(took < patient(Duration::from_secs(1)), "{took:?}");
    }
    assert!(started.socket.exists());
    pause.exec("e", &["true"], &Streams::default())?;
    pause.start("e")?;
    assert_eq!(pause.wait("e")?.status, 0);
    Ok(())
}

fn shutdown_without_containers_ends_the_shim(s: &ByHand) -> Check {
    let task = s.running("ends", &["sleep", "1000"])?;
    let shim = shim_of(&task)?;
    let socket = Path::new(SOCKETS).join(socket_name(&s.address(), s.ctr_ns(), "ends"));
    task.kill(INIT, 9)?;
    task.wait(INIT)?;
    task.delete(INIT)?;
    assert!(proc::is_alive(shim));
    let begin = Instant::now();
    match task.shutdown() {
        Ok(()) | Err(rsrun_tests::ttrpc::Refusal::Closed) => {}
        Err(refusal) => return fail(refusal),
    }
    assert!(
        begin.elapsed() < patient(Duration::from_secs(1)),
        "{:?}",
        begin.elapsed()
    );
    eventually("the shim has ended", FIVE_SECONDS, || !proc::is_alive(shim))?;
    assert!(!socket.exists());
    // The deletion was told before it went.
    s.events.expect("ends", "delete", |w| {
        matches!(w, rsrun_tests::events::What::Delete { .. })
    })?;
    Ok(())
}

fn shutdown_with_containers_is_remembered(s: &ByHand) -> Check {
    let (_, pause, work) = running_pod(s)?;
    let shim = shim_of(&pause)?;
    pause.kill(INIT, 9)?;
    pause.wait(INIT)?;
    pause.delete(INIT)?;
    pause.shutdown()?;
    std::thread::sleep(Duration::from_millis(300));
    assert!(proc::is_alive(shim));
    work.exec("e", &["true"], &Streams::default())?;
    work.start("e")?;
    assert_eq!(work.wait("e")?.status, 0);
    work.kill(INIT, 9)?;
    work.wait(INIT)?;
    work.delete(INIT)?;
    if s.places.is_runc() {
        return Ok(());
    }
    // 2.0 to 2.3 send no second one for a pod's containers.
    eventually("the shim ends by itself", FIVE_SECONDS, || {
        !proc::is_alive(shim)
    })
}

/// As a shim that is killed in a create leaves it: the rootfs is mounted, and there is a name without a record.
fn a_pod_goes_with_what_its_members_creates_left(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: it deletes what it is asked for alone");
    }
    for (id, group) in [
        ("leader", "leader"),
        ("member", "leader"),
        ("foreign", "leader"),
        ("elsewhere", "elsewhere"),
    ] {
        prepared(s, id, group)?;
    }
    let leader = s.task(&s.start("leader")?, "leader")?;
    leader.create(&s.rootfs(), &Streams::default())?;
    leader.start(INIT)?;
    let root = Path::new("/run/containerd/rsrun").join(s.ctr_ns());
    let place = |id: &str| s.bundle(id).join("rootfs");
    for id in ["member", "foreign", "elsewhere"] {
        let (flags, none) = (nix::mount::MsFlags::empty(), None::<&str>);
        nix::mount::mount(Some("tmpfs"), &place(id), Some("tmpfs"), flags, none)?;
    }
    for id in ["member", "elsewhere"] {
        // What Create does first.
        std::fs::write(
            s.bundle(id).join("rsrun-state-root"),
            root.as_os_str().as_encoded_bytes(),
        )?;
        std::fs::create_dir(root.join(id))?;
    }
    kill(shim_of(&leader)?, Signal::SIGKILL)?;
    eventually("it has ended", FIVE_SECONDS, || serving(s).is_empty())?;
    let (_, outcome) = s.delete("leader")?;
    assert_eq!(outcome.stderr, "");
    s.nothing_remains("leader")?;
    assert!(!root.join("member").exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let at = |id: &str| mounts.contains(&place(id).display().to_string());
    // The bundle of a shim that is none of ours stays as it is.
    assert_eq!(
        (at("member"), at("foreign"), at("elsewhere")),
        (false, true, true)
    );
    assert!(root.join("elsewhere").exists());
    nix::mount::umount(&place("foreign"))?;
    s.delete("elsewhere")?;
    s.nothing_remains("elsewhere")
}

/// Who deletes the last container of a pod whose end is wished already: containerd's client of 1.7 may take the answer
/// for lost where the connection ends with it.
fn the_end_does_not_overtake_an_answer(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: what is wished while there are containers is forgotten");
    }
    let (_, pause, work) = running_pod(s)?;
    for task in [&pause, &work] {
        task.kill(INIT, 9)?;
        task.wait(INIT)?;
    }
    let shim = shim_of(&pause)?;
    // So long the shim waits for who has asked whether it serves.
    std::thread::sleep(Duration::from_millis(3200));
    pause.delete(INIT)?;
    pause.shutdown()?;
    let asked = Instant::now();
    work.delete(INIT)?;
    std::thread::sleep(Duration::from_millis(100));
    let serves = proc::is_alive(shim);
    // So long it waits for the next request, and a machine may have been busy meanwhile.
    assert!(serves || asked.elapsed() > Duration::from_secs(1));
    match work.shutdown() {
        Ok(()) | Err(rsrun_tests::ttrpc::Refusal::Closed) => {}
        Err(refusal) => return fail(refusal),
    }
    eventually("the shim has ended", FIVE_SECONDS, || !proc::is_alive(shim))
}

fn sigterm_ends_the_shim_and_removes_its_socket(s: &ByHand) -> Check {
    let task = s.running("term", &["sleep", "1000"])?;
    let socket = Path::new(SOCKETS).join(socket_name(&s.address(), s.ctr_ns(), "term"));
    kill(shim_of(&task)?, Signal::SIGTERM)?;
    eventually("the shim has ended", Duration::from_secs(8), || {
        serving(s).is_empty()
    })?;
    if !s.places.is_runc() {
        assert!(!socket.exists());
    }
    s.delete("term")?;
    s.nothing_remains("term")
}

/// With a seccomp profile, so that there is one to keep.
fn of_a_namespace_without_containers_no_directory_stays(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: its directories stay");
    }
    let root = Path::new("/run/containerd/rsrun").join(s.ctr_ns());
    let mut tasks = Vec::new();
    for id in ["first", "second"] {
        let mut spec = s.spec(id, &["sleep", "1000"]);
        spec["linux"]["seccomp"] = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW"});
        s.prepare(id, &spec)?;
        let started = s.start(id)?;
        let task = s.task(&started, id)?;
        task.create(&s.rootfs(), &Streams::default())?;
        task.start(INIT)?;
        assert!(root.join(id).is_dir());
        tasks.push(task);
    }
    for task in &tasks {
        assert!(root.is_dir(), "it went before {}", task.id);
        task.kill(INIT, 9)?;
        task.wait(INIT)?;
        task.delete(INIT)?;
        task.shutdown()?;
        s.delete(&task.id)?;
    }
    eventually("the namespace's directory is gone", FIVE_SECONDS, || {
        !root.exists()
    })
}
