//! The life of a task under way: signals, freezing, numbers, lists, deletion.

use std::time::Duration;

use rsrun_tests::command::{eventually, run};
use rsrun_tests::proc;
use rsrun_tests::suite::{Case, Check, fail, skip};

use crate::scene::Scene;

pub fn cases() -> Vec<Case<Scene>> {
    rsrun_tests::cases![
        60 s: kill_term_reaches_the_handler, kill_of_a_stopped_task_is_not_found,
            kill_all_reaches_every_process, kill_without_all_reaches_the_init_only,
            pause_freezes_and_resume_thaws, exec_in_a_paused_container_is_refused,
            kill_ends_a_paused_container, checkpoint_is_refused_and_the_container_goes_on,
            metrics_are_those_of_cgroup_v2, ps_lists_the_processes_of_the_container,
            ls_shows_running_paused_and_stopped, delete_of_a_running_task_is_refused,
            delete_by_force_leaves_nothing, delete_tells_the_exit_code,
            the_default_spec_of_ctr_runs_as_it_is,
            children_end_with_the_init_in_a_shared_pid_namespace,
            output_of_a_detached_container_goes_to_its_file;
    ]
}

const WAITS_FOR_TERM: &str = "trap 'exit 11' TERM; echo ready; while :; do sleep 0.1; done";

fn kill_term_reaches_the_handler(s: &Scene) -> Check {
    let id = s.id("term");
    s.detached(
        &id,
        &[
            "sh",
            "-c",
            "trap 'exit 11' TERM; touch /ready; while :; do sleep 0.1; done",
        ],
    )?;
    eventually("the handler is set", Duration::from_secs(10), || {
        s.exec(&id, "look", &["test", "-e", "/ready"])
            .is_ok_and(|o| o.code == 0)
    })?;
    s.task(&["kill", &id])?.ok()?;
    s.await_status(&id, "STOPPED")?;
    assert!(s.delete(&id)?.stderr.contains("code 11"));
    Ok(())
}

fn kill_of_a_stopped_task_is_not_found(s: &Scene) -> Check {
    let id = s.id("gone");
    s.detached(&id, &["true"])?;
    s.await_status(&id, "STOPPED")?;
    s.task(&["kill", "-s", "SIGKILL", &id])?
        .refused("not found")?;
    s.delete(&id)?;
    s.task(&["kill", &id])?.refused("not found")?;
    Ok(())
}

/// An init that survives TERM beside a process that does not.
fn stubborn_init_with_company(s: &Scene) -> Check<String> {
    let id = s.id("all");
    s.detached(
        &id,
        &[
            "sh",
            "-c",
            "trap : TERM; sleep 3000 & touch /ready; while :; do sleep 0.1; done",
        ],
    )?;
    eventually("both run", Duration::from_secs(10), || {
        s.exec(&id, "look", &["test", "-e", "/ready"])
            .is_ok_and(|o| o.code == 0)
    })?;
    Ok(id)
}

fn has_company(id: &str) -> bool {
    let groups = proc::cgroups_named(id);
    groups
        .iter()
        .flat_map(|g| proc::pids_in(g))
        .any(|p| proc::command_line(p) == ["sleep", "3000"])
}

fn kill_all_reaches_every_process(s: &Scene) -> Check {
    let id = stubborn_init_with_company(s)?;
    assert!(has_company(&id));
    s.task(&["kill", "--all", "-s", "SIGTERM", &id])?.ok()?;
    let ended = eventually(
        "the other process has ended",
        Duration::from_secs(5),
        || !has_company(&id),
    );
    if ended.is_err() && s.is_runc() {
        return skip("differs from runc: from 1.2 on its --all is the init alone");
    }
    ended?;
    assert_eq!(s.status(&id)?.as_deref(), Some("RUNNING"));
    s.task(&["kill", "--all", "-s", "SIGKILL", &id])?.ok()?;
    s.await_status(&id, "STOPPED")?;
    s.delete(&id)?;
    s.nothing_remains(&id, Duration::from_secs(5))
}

fn kill_without_all_reaches_the_init_only(s: &Scene) -> Check {
    let id = stubborn_init_with_company(s)?;
    s.task(&["kill", "-s", "SIGTERM", &id])?.ok()?;
    std::thread::sleep(Duration::from_millis(500));
    assert!(has_company(&id));
    s.remove(&id)
}

fn pause_freezes_and_resume_thaws(s: &Scene) -> Check {
    let id = s.id("pause");
    s.detached(
        &id,
        &[
            "sh",
            "-c",
            "n=0; while :; do n=$((n+1)); echo $n > /count; sleep 0.01; done",
        ],
    )?;
    let count = || s.exec(&id, "look", &["cat", "/count"]).map(|o| o.stdout);
    eventually("it counts", Duration::from_secs(10), || {
        count().is_ok_and(|c| c.trim() > "0")
    })?;

    s.task(&["pause", &id])?.ok()?;
    assert_eq!(s.status(&id)?.as_deref(), Some("PAUSED"));
    let groups = proc::cgroups_named(&id);
    let frozen = std::fs::read_to_string(groups[0].join("cgroup.events"))?;
    assert!(frozen.contains("frozen 1"), "{frozen}");
    s.task(&["pause", &id])?.refused("")?;

    s.task(&["resume", &id])?.ok()?;
    assert_eq!(s.status(&id)?.as_deref(), Some("RUNNING"));
    let before = count()?;
    eventually("it counts on", Duration::from_secs(10), || {
        count().is_ok_and(|c| c != before)
    })?;
    s.task(&["resume", &id])?.refused("")?;
    s.remove(&id)
}

fn exec_in_a_paused_container_is_refused(s: &Scene) -> Check {
    let id = s.id("paused");
    s.detached(&id, &["sleep", "1000"])?;
    s.task(&["pause", &id])?.ok()?;
    s.exec(&id, "e", &["true"])?.refused("paused")?;
    s.task(&["resume", &id])?.ok()?;
    s.exec(&id, "e", &["true"])?.ok()?;
    s.remove(&id)
}

fn kill_ends_a_paused_container(s: &Scene) -> Check {
    let id = s.id("frozen");
    s.detached(&id, &["sh", "-c", "sleep 1000 & wait"])?;
    s.task(&["pause", &id])?.ok()?;
    s.remove(&id)?;
    s.nothing_remains(&id, Duration::from_secs(5))
}

fn checkpoint_is_refused_and_the_container_goes_on(s: &Scene) -> Check {
    if s.is_runc() {
        return skip("differs from runc: it hands checkpoints to criu");
    }
    let id = s.id("checkpoint");
    s.detached(&id, &["sleep", "1000"])?;
    let refused = s.task(&["checkpoint", &id])?;
    let said = refused.stderr.to_lowercase();
    assert!(
        refused.code != 0 && (said.contains("not implemented") || said.contains("unimplemented")),
        "{refused:?}"
    );
    s.await_status(&id, "RUNNING")?;
    s.exec(&id, "e", &["true"])?.ok()?;
    s.remove(&id)
}

fn metrics_are_those_of_cgroup_v2(s: &Scene) -> Check {
    let id = s.id("metrics");
    s.detached(
        &id,
        &[
            "sh",
            "-c",
            "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 1000",
        ],
    )?;
    let number = |json: &str, key: &str| -> Option<u64> {
        let rest = json
            .split_once(&format!("\"{key}\":"))?
            .1
            .trim_start_matches([' ', '"']);
        rest.split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    };
    let used = || -> Check<u64> {
        let outcome = s.task(&["metrics", "--format", "json", &id])?.ok()?;
        Ok(number(&outcome.stdout, "usage_usec").unwrap_or_default())
    };
    let counted = eventually("processor time", Duration::from_secs(10), || {
        used().is_ok_and(|u| u > 1000)
    });
    if counted.is_err() && s.is_runc() && !rsrun_tests::ground::has_controllers() {
        return skip(
            "differs from runc: older Go shims read cpu.stat only where the cpu controller is",
        );
    }
    if counted.is_err() {
        return fail(format!(
            "no processor time in {:?}",
            s.task(&["metrics", "--format", "json", &id])?
        ));
    }
    if rsrun_tests::ground::has_controllers() {
        let json = s.task(&["metrics", "--format", "json", &id])?.ok()?.stdout;
        assert!(
            json.contains("\"memory\"") && json.contains("\"pids\""),
            "{json}"
        );
    }
    s.remove(&id)
}

fn ps_lists_the_processes_of_the_container(s: &Scene) -> Check {
    let id = s.id("ps");
    s.detached(&id, &["sh", "-c", "sleep 1000 & sleep 1000 & wait"])?;
    let listed = || -> Check<Vec<String>> {
        let table = s.task(&["ps", &id])?.ok()?.stdout;
        Ok(table
            .lines()
            .skip(1)
            .filter_map(|l| l.split_whitespace().next().map(String::from))
            .collect())
    };
    eventually("three are listed", Duration::from_secs(10), || {
        listed().is_ok_and(|l| l.len() == 3)
    })?;
    let init = s.pid(&id)?;
    let pids = listed()?;
    assert!(pids.contains(&init.to_string()), "{init} in {pids:?}");
    let group = &proc::cgroups_named(&id)[0];
    for pid in proc::pids_in(group) {
        assert!(pids.contains(&pid.to_string()), "{pid} in {pids:?}");
    }
    s.remove(&id)
}

fn ls_shows_running_paused_and_stopped(s: &Scene) -> Check {
    let id = s.id("ls");
    s.detached(&id, &["sleep", "1000"])?;
    assert_eq!(s.status(&id)?.as_deref(), Some("RUNNING"));
    assert!(proc::is_alive(s.pid(&id)?));
    s.task(&["pause", &id])?.ok()?;
    assert_eq!(s.status(&id)?.as_deref(), Some("PAUSED"));
    s.task(&["resume", &id])?.ok()?;
    s.task(&["kill", "-s", "SIGKILL", &id])?.ok()?;
    s.await_status(&id, "STOPPED")?;
    s.delete(&id)?;
    assert_eq!(s.status(&id)?, None);
    Ok(())
}

fn delete_of_a_running_task_is_refused(s: &Scene) -> Check {
    let id = s.id("running");
    s.detached(&id, &["sleep", "1000"])?;
    s.task(&["delete", &id])?.refused("")?;
    assert_eq!(s.status(&id)?.as_deref(), Some("RUNNING"));
    s.remove(&id)
}

fn delete_by_force_leaves_nothing(s: &Scene) -> Check {
    let id = s.id("force");
    s.detached(&id, &["sh", "-c", WAITS_FOR_TERM])?;
    s.task(&["delete", "-f", &id])?.ok()?;
    s.nothing_remains(&id, Duration::from_secs(5))
}

fn delete_tells_the_exit_code(s: &Scene) -> Check {
    let id = s.id("code");
    s.detached(&id, &["sh", "-c", "exit 77"])?;
    s.await_status(&id, "STOPPED")?;
    assert!(s.delete(&id)?.stderr.contains("code 77"));
    s.nothing_remains(&id, Duration::from_secs(5))
}

fn the_default_spec_of_ctr_runs_as_it_is(s: &Scene) -> Check {
    if s.is_runc() && !rsrun_tests::ground::has_controllers() {
        return skip(
            "differs from runc: it wants a cpu controller for the kernel's own default weight",
        );
    }
    let mut ctr = s.containerd.ctr_command();
    ctr.args(["run", "--rm", "--runtime", &s.containerd.places.runtime]);
    ctr.args([
        rsrun_tests::containerd::IMAGE,
        &s.id("default"),
        "echo",
        "hi",
    ]);
    assert_eq!(run(&mut ctr, Duration::from_secs(30))?.ok()?.stdout, "hi\n");
    Ok(())
}

fn children_end_with_the_init_in_a_shared_pid_namespace(s: &Scene) -> Check {
    let id = s.id("shared");
    let flags = ["--rm", "--with-ns", "pid:/proc/1/ns/pid"];
    s.run(
        &flags,
        &id,
        &["sh", "-c", "sleep 3000 & sleep 3000 & exit 4"],
    )?
    .code(4)?;
    if s.is_runc() {
        // differs from runc: 2.4's Go shim with an old runc leaves the cgroup.
        return Ok(());
    }
    s.nothing_remains(&id, Duration::from_secs(5))
}

fn output_of_a_detached_container_goes_to_its_file(s: &Scene) -> Check {
    let id = s.id("file");
    let file = s.containerd.directory().join(format!("logs/{id}.log"));
    let uri = format!("file://{}", file.display());
    s.run(
        &["-d", "--log-uri", &uri],
        &id,
        &["sh", "-c", "echo out; echo err >&2"],
    )?
    .ok()?;
    s.await_status(&id, "STOPPED")?;
    s.delete(&id)?;
    let said = std::fs::read_to_string(&file)?;
    assert!(said.contains("out\n") && said.contains("err\n"), "{said}");
    Ok(())
}
