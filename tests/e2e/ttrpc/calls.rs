//! What single calls answer and do, beside whether they are allowed.

use std::time::Duration;

use containerd_shim_protos::api::Status;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rsrun_tests::by_hand::ByHand;
use rsrun_tests::command::eventually;
use rsrun_tests::suite::{Case, Check, skip};
use rsrun_tests::task::{INIT, Streams, Task, V2, V3};
use rsrun_tests::ttrpc::Answer;
use serde_json::json;
use ttrpc::Code;

use crate::states::{EXEC, Expect, KILL, fits};

pub fn cases() -> Vec<Case<ByHand>> {
    rsrun_tests::cases![
        60 s: both_task_services_answer_on_one_socket, exec_ids_are_reserved_at_once,
            an_exec_that_fails_to_start_stays_created, start_of_an_exec_after_the_init_ended,
            state_tells_all_fields, create_of_an_id_in_use_is_refused,
            pids_name_the_execs, pids_have_the_init_until_it_is_deleted, stats_are_those_of_cgroup_v2, update_is_taken_in_created_running_and_paused;
    ]
}

fn both_task_services_answer_on_one_socket(s: &ByHand) -> Check {
    let task = s.running("both", &["sleep", "1000"])?;
    let pid = task.state(INIT)?.pid;
    // The reference of each age has one of the two.
    let services = if s.places.is_runc() {
        vec![task.service]
    } else {
        vec![V2, V3]
    };
    for service in services {
        let other = Task {
            service,
            ..task.clone()
        };
        assert_eq!(other.state(INIT)?.pid, pid, "{service}");
        other
            .exec(service, &["true"], &Streams::default())
            .map_err(|e| format!("{service}: {e}"))?;
        other.delete(service)?;
    }
    Ok(())
}

fn exec_ids_are_reserved_at_once(s: &ByHand) -> Check {
    let task = s.running("reserve", &["sleep", "1000"])?;
    let answers: Vec<Answer<()>> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| task.exec("one", &["true"], &Streams::default())))
            .collect();
        all.into_iter().filter_map(|t| t.join().ok()).collect()
    });
    let taken = answers.iter().filter(|a| a.is_ok()).count();
    let refused = answers
        .iter()
        .filter(|a| fits(Expect::Code(Code::ALREADY_EXISTS), a))
        .count();
    assert_eq!((taken, refused), (1, 7), "{answers:?}");
    Ok(())
}

fn an_exec_that_fails_to_start_stays_created(s: &ByHand) -> Check {
    let task = s.running("failing", &["sleep", "1000"])?;
    task.exec(EXEC, &["nosuchprogram"], &Streams::default())?;
    let refusal = task
        .start(EXEC)
        .err()
        .ok_or("a missing program was started")?;
    assert!(
        refusal.to_string().contains("executable file not found"),
        "{refusal}"
    );
    // Wait must not hang; what it says of a process that never was is free.
    let _ = task.wait_within(EXEC, Duration::from_secs(2));
    if !s.places.is_runc() {
        assert_eq!(task.status(EXEC)?, Status::CREATED);
    }
    task.delete(EXEC)?;
    task.exec(EXEC, &["true"], &Streams::default())?;
    task.start(EXEC)?;
    assert_eq!(task.wait(EXEC)?.status, 0);
    Ok(())
}

fn start_of_an_exec_after_the_init_ended(s: &ByHand) -> Check {
    let task = s.running("late", &["sleep", "1000"])?;
    task.exec(EXEC, &["true"], &Streams::default())?;
    task.kill(INIT, KILL)?;
    task.wait(INIT)?;
    let answer = task.start(EXEC).map(drop);
    // 1.6's reference asks runc, and runc has no codes.
    let expect = if s.places.is_runc() {
        Expect::Refused
    } else {
        Expect::Code(Code::FAILED_PRECONDITION)
    };
    assert!(fits(expect, &answer), "{answer:?}");
    task.delete(INIT)?;
    s.nothing_remains("late")
}

fn state_tells_all_fields(s: &ByHand) -> Check {
    let task = s.running("fields", &["sleep", "1000"])?;
    let state = task.state(INIT)?;
    assert_eq!(
        (state.id.as_str(), state.bundle.as_str()),
        ("fields", s.bundle("fields").to_str().unwrap_or(""))
    );
    assert_eq!(state.status.enum_value_or(Status::UNKNOWN), Status::RUNNING);
    assert_eq!(state.exit_status, 0);
    assert!(
        state.exited_at.as_ref().is_none_or(|t| t.seconds <= 0),
        "{:?}",
        state.exited_at
    );
    let init = std::fs::read_to_string(s.bundle("fields").join("init.pid"))?;
    assert_eq!(init, state.pid.to_string());

    task.exec(EXEC, &["sleep", "1000"], &Streams::default())?;
    let pid = task.start(EXEC)?;
    let exec = task.state(EXEC)?;
    // containerd reads neither; the reference puts the exec's id where the container's is.
    assert!(
        exec.pid == pid && (exec.exec_id == EXEC || exec.id == EXEC),
        "{exec:?}"
    );
    task.kill(EXEC, KILL)?;
    let exit = task.wait(EXEC)?;
    let exec = task.state(EXEC)?;
    assert_eq!(
        (exec.exit_status, exec.status.enum_value_or(Status::UNKNOWN)),
        (137, Status::STOPPED)
    );
    assert_eq!(exec.exited_at.as_ref().map(|t| t.seconds), exit.at);
    Ok(())
}

fn create_of_an_id_in_use_is_refused(s: &ByHand) -> Check {
    let task = s.running("twice", &["sleep", "1000"])?;
    let again = task.create(&[], &Streams::default()).map(drop);
    // The reference finds out only in runc, which has another word for it.
    let expect = if s.places.is_runc() {
        Expect::Refused
    } else {
        Expect::Code(Code::ALREADY_EXISTS)
    };
    assert!(fits(expect, &again), "{again:?}");
    assert_eq!(task.status(INIT)?, Status::RUNNING);
    Ok(())
}

fn pids_name_the_execs(s: &ByHand) -> Check {
    let task = s.running("pids", &["sleep", "1000"])?;
    task.exec(EXEC, &["sleep", "1000"], &Streams::default())?;
    let exec = task.start(EXEC)?;
    let init = task.state(INIT)?.pid;
    let mut pids = task.pids()?;
    pids.sort();
    let mut expected = vec![(init, None), (exec, Some(EXEC.to_string()))];
    expected.sort();
    assert_eq!(pids, expected);
    Ok(())
}

/// A containerd that comes back takes a shim without pids for a leaked one, at whatever moment it asks.
fn pids_have_the_init_until_it_is_deleted(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: its shim lists no process once the init has ended");
    }
    let keeper = s.running("keeper", &["sleep", "1000"])?;
    for round in 0..rsrun_tests::pace::fewer(40) {
        let id = format!("ends-{round}");
        s.prepare(&id, &s.spec(&id, &["sleep", "1000"]))?;
        let task = s.task_on(keeper.client.clone(), &id);
        let pid = task.create(&s.rootfs(), &Streams::default())?;
        task.start(INIT)?;
        // Not by the shim: it is to hear of the end while it is asked.
        kill(Pid::from_raw(pid.try_into()?), Signal::SIGKILL)?;
        let mut stopped = false;
        while !stopped {
            stopped = task.status(INIT)? == Status::STOPPED;
            assert_eq!(task.pids()?, [(pid, None)], "round {round}");
        }
        task.delete(INIT)?;
        assert!(
            task.pids()
                .is_err_and(|r| r.code() == Some(Code::NOT_FOUND))
        );
    }
    Ok(())
}

fn stats_are_those_of_cgroup_v2(s: &ByHand) -> Check {
    let script = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; sleep 1000";
    let task = s.running("stats", &["sh", "-c", script])?;
    let stats = task.stats()?;
    assert!(
        stats.type_url.ends_with("io.containerd.cgroups.v2.Metrics"),
        "{}",
        stats.type_url
    );
    let read = || -> Check<containerd_shim_protos::cgroups_v2::metrics::Metrics> {
        Ok(protobuf::Message::parse_from_bytes(&task.stats()?.value)?)
    };
    read()?;
    if !s.places.is_runc() || rsrun_tests::ground::has_controllers() {
        eventually("processor time", Duration::from_secs(10), || {
            read().is_ok_and(|m| m.cpu.usage_usec > 1000)
        })?;
    }
    if rsrun_tests::ground::has_controllers() {
        let metrics = read()?;
        assert!(
            metrics.memory.usage > 0 && metrics.pids.current > 0,
            "{metrics:?}"
        );
    }
    // Until Delete a stopped container still has its numbers.
    task.kill(INIT, KILL)?;
    task.wait(INIT)?;
    if !s.places.is_runc() {
        task.stats()?;
    }
    Ok(())
}

fn update_is_taken_in_created_running_and_paused(s: &ByHand) -> Check {
    if !rsrun_tests::ground::has_controllers() {
        return rsrun_tests::suite::skip("needs the pids controller on cgroup v2");
    }
    let task = s.fresh("update", &["sleep", "1000"])?;
    task.create(&s.rootfs(), &Streams::default())?;
    let limit = || -> Check<String> {
        let group = rsrun_tests::proc::cgroups_named("update").remove(0);
        Ok(std::fs::read_to_string(group.join("pids.max"))?
            .trim()
            .to_string())
    };
    let set = |n: i64| task.update(&json!({"pids": {"limit": n}}));
    set(100)?;
    assert_eq!(limit()?, "100");
    task.start(INIT)?;
    set(101)?;
    assert_eq!(limit()?, "101");
    task.pause()?;
    set(102)?;
    assert_eq!(limit()?, "102");
    task.resume()?;
    set(-1)?;
    assert_eq!(limit()?, "max");
    Ok(())
}
