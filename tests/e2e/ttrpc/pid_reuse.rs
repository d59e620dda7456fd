//! Does an exit stay with its own process when the kernel gives the pid away again?

use std::fs;
use std::time::Duration;

use containerd_shim_protos::api::Status;
use rsrun_tests::by_hand::ByHand;
use rsrun_tests::command::eventually;
use rsrun_tests::proc;
use rsrun_tests::suite::{Case, Check, skip};
use rsrun_tests::task::{INIT, Streams, Task};
use serde_json::json;

pub fn cases() -> Vec<Case<ByHand>> {
    rsrun_tests::cases![
        90 s: an_exec_with_the_pid_of_a_dead_orphan_has_its_own_exit;
    ]
}

/// Others take pids of this namespace too, so the one that is wanted does not come every time.
const ATTEMPTS: usize = 60;

fn an_exec_with_the_pid_of_a_dead_orphan_has_its_own_exit(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: its execs take many pids, none can be chosen");
    }
    // In the host's pid namespace orphans come to the shim.
    let mut spec = s.spec("orphans", &["sleep", "1000"]);
    if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|n| n["type"] != "pid");
    }
    s.prepare("orphans", &spec)?;
    let started = s.start("orphans")?;
    let task = s.task(&started, "orphans")?;
    task.create(&s.rootfs(), &Streams::default())?;
    task.start(INIT)?;

    // While a launch is in flight exits are kept, for it may be the next to be claimed.
    let mut slow = s.spec("slow", &["sleep", "1000"]);
    slow["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "80"]}]});
    s.prepare("slow", &slow)?;
    let second = s.task_on(task.client.clone(), "slow");
    let (creating, rootfs) = (second.clone(), s.rootfs());
    let creation = std::thread::spawn(move || creating.create(&rootfs, &Streams::default()));
    eventually("the hook runs", Duration::from_secs(10), || {
        second.status(INIT).is_ok()
    })?;

    let mut came_round = false;
    for attempt in 0..ATTEMPTS {
        let orphan = dead_orphan(s, &task, attempt)?;
        came_round |= exec_as(&task, attempt, orphan)?;
        if came_round {
            break;
        }
    }
    second.kill(INIT, 9)?;
    let _ = creation.join();
    match came_round {
        true => Ok(()),
        false => skip("others took the pid each time"),
    }
}

/// The pid of a process that the shim inherited, that ended with 9 and was reaped.
fn dead_orphan(s: &ByHand, task: &Task, attempt: usize) -> Check<i32> {
    let exec = format!("forks-{attempt}");
    let path = s.directory().join(&exec);
    let streams = Streams {
        stdout: format!("file://{}", path.display()),
        ..Default::default()
    };
    let script = "sh -c 'echo $$; sleep 0.1; exit 9' &";
    task.exec(&exec, &["sh", "-c", script], &streams)?;
    task.start(&exec)?;
    task.wait(&exec)?;
    let read = || {
        fs::read_to_string(&path)
            .unwrap_or_default()
            .trim()
            .parse::<i32>()
    };
    eventually("the orphan says its pid", Duration::from_secs(10), || {
        read().is_ok()
    })?;
    let pid = read()?;
    eventually("the orphan is reaped", Duration::from_secs(10), || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    })?;
    task.delete(&exec)?;
    Ok(pid)
}

/// Whether an exec got `pid`; if so it lives and ends as itself.
fn exec_as(task: &Task, attempt: usize, pid: i32) -> Check<bool> {
    let exec = format!("again-{attempt}");
    task.exec(&exec, &["sleep", "1000"], &Streams::default())?;
    // Two threads of the launch come first.
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 3).to_string())?;
    let got = i32::try_from(task.start(&exec)?)?;
    if got == pid {
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(task.status(&exec)?, Status::RUNNING);
        assert!(proc::is_alive(nix::unistd::Pid::from_raw(pid)));
    }
    task.kill(&exec, 9)?;
    assert_eq!(
        task.wait(&exec)?.status,
        137,
        "{exec} has pid {got}, the orphan had {pid}"
    );
    task.delete(&exec)?;
    Ok(got == pid)
}
