//! What survives when a part dies: containerd, the shim, or both.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use rsrun_tests::command::{eventually, spawn};
use rsrun_tests::proc;
use rsrun_tests::suite::{Case, Check, skip};

use crate::scene::Scene;

/// These end their daemon, so each gets one of its own.
pub fn cases() -> Vec<Case<Scene>> {
    rsrun_tests::cases![
        120 s: containers_go_on_while_containerd_is_down, exits_while_containerd_is_down_arrive_afterwards,
            output_waits_for_a_reader_while_containerd_is_down, nothing_remains_of_a_container_whose_shim_was_killed,
            nothing_remains_of_a_pod_whose_shim_was_killed,
            nothing_remains_when_containerd_and_shim_were_killed, a_shim_ends_on_sigterm_of_its_container_only;
    ]
}

const FIVE_SECONDS: Duration = Duration::from_secs(5);

fn containers_go_on_while_containerd_is_down(s: &Scene) -> Check {
    let id = s.id("goes-on");
    let file = s.containerd.directory().join(format!("{id}.log"));
    let uri = format!("file://{}", file.display());
    let script = "trap 'exit 33' TERM; n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done";
    s.run(&["-d", "--log-uri", &uri], &id, &["sh", "-c", script])?
        .ok()?;
    let lines = || {
        std::fs::read_to_string(&file)
            .unwrap_or_default()
            .lines()
            .count()
    };
    eventually("it counts", Duration::from_secs(10), || lines() > 2)?;
    let pid = s.pid(&id)?;

    s.containerd.kill()?;
    let before = lines();
    eventually("it counts on", Duration::from_secs(10), || {
        lines() > before + 5
    })?;
    assert!(proc::is_alive(pid));
    s.containerd.launch()?;

    assert_eq!(s.status(&id)?.as_deref(), Some("RUNNING"));
    assert_eq!(s.pid(&id)?, pid);
    assert_eq!(
        s.exec(&id, "e", &["echo", "joined"])?.ok()?.stdout,
        "joined\n"
    );
    s.task(&["kill", "-s", "SIGTERM", &id])?.ok()?;
    s.await_status(&id, "STOPPED")?;
    assert!(s.delete(&id)?.stderr.contains("code 33"));
    let said = std::fs::read_to_string(&file)?;
    for (at, line) in said.lines().enumerate() {
        assert_eq!(line, (at + 1).to_string(), "no line lost or doubled");
    }
    s.nothing_remains(&id, FIVE_SECONDS)
}

fn exits_while_containerd_is_down_arrive_afterwards(s: &Scene) -> Check {
    let id = s.id("exits");
    s.detached(&id, &["sh", "-c", "sleep 3; exit 7"])?;
    let pid = s.pid(&id)?;
    s.containerd.kill()?;
    eventually("the container has ended", Duration::from_secs(15), || {
        !proc::is_alive(pid)
    })?;
    std::thread::sleep(Duration::from_millis(500));
    s.containerd.launch()?;
    if s.status(&id)?.is_none() {
        s.nothing_remains(&id, FIVE_SECONDS)?;
        if s.is_runc() {
            return skip(format!(
                "containerd {} took the ended task for a leaked shim",
                s.containerd.line
            ));
        }
    }
    s.await_status(&id, "STOPPED")?;
    let said = s.delete(&id)?;
    assert!(said.stderr.contains("code 7"), "{said:?}");
    s.nothing_remains(&id, FIVE_SECONDS)
}

fn output_waits_for_a_reader_while_containerd_is_down(s: &Scene) -> Check {
    let id = s.id("reader");
    s.run(
        &["-d"],
        &id,
        &["sh", "-c", "sleep 2; seq 1 20000; sleep 2; exit 8"],
    )?
    .ok()?;
    s.containerd.kill()?;
    // 108,894 bytes: more than a fifo holds, so the writer must wait, not lose.
    std::thread::sleep(Duration::from_secs(3));
    s.containerd.launch()?;
    let attached = spawn(
        s.task_command(&["attach", &id])
            .stdin(std::process::Stdio::piped()),
    )?;
    let outcome = attached.finish(Duration::from_secs(20))?.code(8)?;
    let expected: String = (1..=20000).map(|n| format!("{n}\n")).collect();
    assert!(
        outcome.stdout == expected,
        "{} bytes instead of {}",
        outcome.stdout.len(),
        expected.len()
    );
    Ok(())
}

fn nothing_remains_of_a_container_whose_shim_was_killed(s: &Scene) -> Check {
    let id = s.id("crash");
    s.detached(
        &id,
        &["sh", "-c", "trap '' TERM; sleep 1000 & sleep 1000 & wait"],
    )?;
    s.task(&["exec", "-d", "--exec-id", "e", &id, "sleep", "1000"])?
        .ok()?;
    let group = proc::cgroups_named(&id);
    assert_eq!(group.len(), 1);
    let processes = proc::pids_in(&group[0]);
    assert!(processes.len() >= 2, "{processes:?}");

    let shims = s.containerd.shims_of(&id);
    assert_eq!(shims.len(), 1, "{shims:?}");
    kill(shims[0], Signal::SIGKILL)?;
    s.nothing_remains(&id, FIVE_SECONDS)?;
    assert!(processes.iter().all(|p| !proc::is_alive(*p)));
    // The id is free again, in the same daemon.
    let _ = s.containerd.ctr(&["containers", "rm", &id])?;
    assert_eq!(
        s.run(&["--rm"], &id, &["echo", "again"])?.ok()?.stdout,
        "again\n"
    );
    Ok(())
}

fn nothing_remains_of_a_pod_whose_shim_was_killed(s: &Scene) -> Check {
    let ids = [s.id("pod"), s.id("pod"), s.id("pod")];
    let annotation = format!("io.kubernetes.cri.sandbox-id={}", ids[0]);
    for id in &ids {
        s.run(
            &["-d", "--null-io", "--annotation", &annotation],
            id,
            &["sleep", "1000"],
        )?
        .ok()?;
    }
    let shims = s.containerd.shims_of(&ids[0]);
    assert_eq!(shims.len(), 1, "{shims:?}");
    kill(shims[0], Signal::SIGKILL)?;
    for id in &ids {
        s.nothing_remains(id, FIVE_SECONDS)?;
    }
    Ok(())
}

fn nothing_remains_when_containerd_and_shim_were_killed(s: &Scene) -> Check {
    let id = s.id("both");
    s.detached(&id, &["sh", "-c", "sleep 1000 & wait"])?;
    let shims = s.containerd.shims_of(&id);
    s.containerd.kill()?;
    kill(shims[0], Signal::SIGKILL)?;
    s.containerd.launch()?;
    s.nothing_remains(&id, FIVE_SECONDS)?;
    assert_eq!(s.status(&id)?, None);
    Ok(())
}

fn a_shim_ends_on_sigterm_of_its_container_only(s: &Scene) -> Check {
    // A container's signal must not reach its shim, nor a sibling's.
    let (first, second) = (s.id("one"), s.id("two"));
    s.detached(&first, &["sleep", "1000"])?;
    s.detached(&second, &["sleep", "1000"])?;
    let (a, b) = (
        s.containerd.shims_of(&first),
        s.containerd.shims_of(&second),
    );
    assert!(a.len() == 1 && b.len() == 1 && a != b, "{a:?} {b:?}");
    s.remove(&first)?;
    eventually("the first shim has ended", FIVE_SECONDS, || {
        s.containerd.shims_of(&first).is_empty()
    })?;
    assert_eq!(s.containerd.shims_of(&second), b);
    s.exec(&second, "e", &["true"])?.ok()?;
    s.remove(&second)
}
