//! Several containers in one shim, the shim's socket, and many containers at once.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use rsrun_tests::command::{eventually, run};
use rsrun_tests::containerd::SOCKETS;
use rsrun_tests::ground;
use rsrun_tests::pace;
use rsrun_tests::proc;
use rsrun_tests::suite::{Case, Check, Stop, fail};

use rsrun_tests::task::{Task, V2, V3};
use rsrun_tests::ttrpc::Client;
use serde_json::json;

use crate::scene::Scene;

pub fn cases() -> Vec<Case<Scene>> {
    rsrun_tests::cases![
        90 s: three_containers_of_a_pod_share_one_shim, a_pod_outlives_its_first_container,
            the_socket_is_for_its_owner_only, a_stranger_is_not_answered_on_the_socket,
            an_update_reaches_the_container;
        300 s: a_hundred_containers_live_at_once, twenty_runs_at_once_keep_their_output_apart;
    ]
}

fn pod(s: &Scene) -> Check<[String; 3]> {
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
    Ok(ids)
}

fn three_containers_of_a_pod_share_one_shim(s: &Scene) -> Check {
    let ids = pod(s)?;
    assert_eq!(s.containerd.shims_of(&ids[0]).len(), 1);
    assert!(s.containerd.shims_of(&ids[1]).is_empty() && s.containerd.shims_of(&ids[2]).is_empty());
    for id in &ids {
        assert_eq!(s.status(id)?.as_deref(), Some("RUNNING"));
        assert_eq!(
            s.exec(id, "e", &["echo", id])?.ok()?.stdout,
            format!("{id}\n")
        );
    }
    s.remove(&ids[1])?;
    s.nothing_remains(&ids[1], Duration::from_secs(5))?;
    for id in [&ids[0], &ids[2]] {
        s.exec(id, "e", &["true"])?.ok()?;
    }
    s.remove(&ids[2])?;
    assert_eq!(s.containerd.shims_of(&ids[0]).len(), 1);
    s.remove(&ids[0])?;
    s.nothing_remains(&ids[0], Duration::from_secs(5))
}

fn a_pod_outlives_its_first_container(s: &Scene) -> Check {
    let ids = pod(s)?;
    s.remove(&ids[0])?;
    assert_eq!(s.containerd.shims_of(&ids[0]).len(), 1);
    for id in &ids[1..] {
        s.exec(id, "e", &["true"])?.ok()?;
        s.remove(id)?;
    }
    for id in &ids {
        s.nothing_remains(id, Duration::from_secs(5))?;
    }
    Ok(())
}

fn the_socket_is_for_its_owner_only(s: &Scene) -> Check {
    let id = s.id("socket");
    s.detached(&id, &["sleep", "1000"])?;
    let (socket, directory) = (
        std::fs::metadata(s.containerd.socket(&id))?,
        std::fs::metadata(SOCKETS)?,
    );
    // Go's listener leaves what the umask grants and trusts the directory.
    if !s.is_runc() {
        assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(
        directory.permissions().mode() & 0o077,
        0,
        "{:o}",
        directory.permissions().mode()
    );
    assert_eq!((socket.uid(), directory.uid()), (0, 0));
    s.remove(&id)
}

/// Connects from a process of another group: root may open the socket whatever
/// its mode, so only the peer check stands between.
fn a_stranger_is_not_answered_on_the_socket(s: &Scene) -> Check {
    let id = s.id("peer");
    s.detached(&id, &["sleep", "1000"])?;
    let ask = |gid: u32| -> Check<i32> {
        let mut probe = Command::new("/proc/self/exe");
        probe.env(crate::PROBE, s.containerd.socket(&id)).gid(gid);
        Ok(run(&mut probe, Duration::from_secs(10))?.code)
    };
    assert_eq!(ask(0)?, crate::ANSWERED, "the owner is answered");
    assert_eq!(ask(65534)?, crate::DROPPED, "a stranger is not");
    s.remove(&id)
}

/// ctr has no word for it, so it goes to the shim that containerd started.
fn an_update_reaches_the_container(s: &Scene) -> Check {
    let id = s.id("update");
    s.detached(&id, &["sleep", "1000"])?;
    let services = if s.containerd.line.starts_with("1.") {
        [V2, V2]
    } else {
        [V3, V3]
    };
    let services = if s.is_runc() { services } else { [V2, V3] };
    let client = std::sync::Arc::new(Client::connect(&s.containerd.socket(&id))?);
    for (service, limit) in services.into_iter().zip([50, 60]) {
        let task = Task {
            client: client.clone(),
            service,
            id: id.clone(),
            bundle: s.containerd.bundle(&id),
        };
        task.update(&json!({}))?;
        if ground::has_controllers() {
            task.update(&json!({"pids": {"limit": limit}}))?;
            let group = proc::cgroups_named(&id).remove(0);
            assert_eq!(
                std::fs::read_to_string(group.join("pids.max"))?,
                format!("{limit}\n")
            );
        }
    }
    s.remove(&id)
}

fn a_hundred_containers_live_at_once(s: &Scene) -> Check {
    let ids: Vec<String> = (0..pace::fewer(100)).map(|_| s.id("hundred")).collect();
    side_by_side(&ids, |id| s.detached(id, &["sleep", "1000"]))?;
    let table = s.task(&["ls"])?.ok()?.stdout;
    let running = table
        .lines()
        .filter(|l| l.starts_with("hundred-") && l.contains("RUNNING"))
        .count();
    assert_eq!(running, ids.len(), "{table}");
    side_by_side(&ids[..ids.len().min(20)], |id| {
        let outcome = s.exec(id, "e", &["echo", id])?.ok()?;
        if outcome.stdout == format!("{id}\n") {
            Ok(())
        } else {
            fail(format!("{outcome:?} of {id}"))
        }
    })?;
    side_by_side(&ids, |id| s.task(&["delete", "-f", id])?.ok().map(|_| ()))?;
    for id in &ids {
        s.nothing_remains(id, Duration::from_secs(5))?;
    }
    Ok(())
}

fn twenty_runs_at_once_keep_their_output_apart(s: &Scene) -> Check {
    let ids: Vec<String> = (0..20).map(|_| s.id("apart")).collect();
    side_by_side(&ids, |id| {
        let outcome = s
            .run(
                &["--rm"],
                id,
                &["sh", "-c", &format!("seq 1 5000; echo {id}")],
            )?
            .ok()?;
        let expected: String = (1..=5000)
            .map(|n| format!("{n}\n"))
            .chain([format!("{id}\n")])
            .collect();
        if outcome.stdout == expected {
            Ok(())
        } else {
            fail(format!("{} bytes of {id}", outcome.stdout.len()))
        }
    })?;
    eventually("all are gone", Duration::from_secs(5), || {
        ids.iter().all(|id| s.remains(id).is_empty())
    })
}

/// Does `work` for every id, eight at a time; the first failure is the answer.
fn side_by_side(ids: &[String], work: impl Fn(&str) -> Check + Sync) -> Check {
    let next = Mutex::new(ids.iter());
    let failed: Mutex<Option<Stop>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Some(id) = next.lock().unwrap_or_else(|e| e.into_inner()).next() else {
                        return;
                    };
                    if let Err(stop) = work(id) {
                        failed
                            .lock()
                            .unwrap_or_else(|e| e.into_inner())
                            .get_or_insert(stop);
                    }
                }
            });
        }
    });
    failed
        .into_inner()
        .unwrap_or_else(|e| e.into_inner())
        .map_or(Ok(()), Err)
}
