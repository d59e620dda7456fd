//! `ctr tasks exec` and `attach`: processes that join, and clients that come later.

use std::process::Stdio;
use std::time::Duration;

use rsrun_tests::command::{eventually, spawn};
use rsrun_tests::suite::{Case, Check};
use rsrun_tests::terminal::Terminal;

use crate::scene::Scene;

pub fn cases() -> Vec<Case<Scene>> {
    rsrun_tests::cases![
        60 s: exec_prints_output_and_passes_its_code, exec_sees_the_container,
            exec_with_user_and_cwd, exec_of_a_missing_binary_fails_and_the_container_goes_on,
            exec_id_can_be_used_again_after_the_end, exec_id_in_use_is_refused,
            exec_with_terminal_follows_resize, exec_reads_stdin_until_its_end,
            exec_detached_is_listed_and_killed_by_its_id,
            attach_gets_what_was_printed_before_and_after;
    ]
}

fn sleeper(s: &Scene) -> Check<String> {
    let id = s.id("exec");
    s.detached(&id, &["sleep", "1000"])?;
    Ok(id)
}

fn exec_prints_output_and_passes_its_code(s: &Scene) -> Check {
    let id = sleeper(s)?;
    let outcome = s
        .exec(&id, "e1", &["sh", "-c", "echo out; echo err >&2; exit 9"])?
        .code(9)?;
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "err\n")
    );
    s.remove(&id)
}

fn exec_sees_the_container(s: &Scene) -> Check {
    let id = sleeper(s)?;
    let outcome = s
        .exec(
            &id,
            "e1",
            &[
                "sh",
                "-c",
                "cat /proc/1/cmdline | tr '\\0' ' '; echo; cat /proc/self/cgroup",
            ],
        )?
        .ok()?;
    assert!(
        outcome.stdout.starts_with("sleep 1000"),
        "{}",
        outcome.stdout
    );
    let groups = rsrun_tests::proc::cgroups_named(&id);
    assert_eq!(groups.len(), 1, "{groups:?}");
    s.remove(&id)
}

fn exec_with_user_and_cwd(s: &Scene) -> Check {
    let id = sleeper(s)?;
    let args = [
        "exec",
        "--exec-id",
        "u",
        "--user",
        "1234:1235",
        "--cwd",
        "/tmp",
        &id,
        "sh",
        "-c",
        "id -u; id -g; pwd",
    ];
    let outcome = s.task(&args)?.ok()?;
    assert_eq!(outcome.stdout, "1234\n1235\n/tmp\n");
    s.remove(&id)
}

fn exec_of_a_missing_binary_fails_and_the_container_goes_on(s: &Scene) -> Check {
    let id = sleeper(s)?;
    s.exec(&id, "e1", &["nosuchprogram"])?
        .refused("executable file not found")?;
    assert_eq!(
        s.exec(&id, "e1", &["echo", "alive"])?.ok()?.stdout,
        "alive\n"
    );
    s.remove(&id)
}

fn exec_id_can_be_used_again_after_the_end(s: &Scene) -> Check {
    let id = sleeper(s)?;
    for _ in 0..3 {
        s.exec(&id, "same", &["true"])?.ok()?;
    }
    s.remove(&id)
}

fn exec_id_in_use_is_refused(s: &Scene) -> Check {
    let id = sleeper(s)?;
    let first = spawn(
        s.task_command(&["exec", "--exec-id", "taken", &id, "sleep", "1000"])
            .stdin(Stdio::piped()),
    )?;
    let busy = || {
        s.exec(&id, "probe", &["sh", "-c", "ps | grep -c '[s]leep 1000'"])
            .is_ok_and(|o| o.stdout == "2\n")
    };
    eventually("the exec runs", Duration::from_secs(10), busy)?;
    s.exec(&id, "taken", &["true"])?.refused("exists")?;
    s.task(&["kill", "-s", "SIGKILL", "--exec-id", "taken", &id])?
        .ok()?;
    first.finish(Duration::from_secs(10))?.code(137)?;
    s.remove(&id)
}

fn exec_with_terminal_follows_resize(s: &Scene) -> Check {
    let id = sleeper(s)?;
    let mut terminal = Terminal::new(24, 80)?;
    let script = "tty; echo ready; while read line; do stty size; done; exit 3";
    let mut exec = s.task_command(&["exec", "-t", "--exec-id", "t", &id, "sh", "-c", script]);
    let ctr = terminal.spawn(&mut exec)?;
    terminal.expect("/dev/pts/")?;
    terminal.expect("ready")?;
    // ctr passes on what comes before it listens for SIGWINCH, so one signal alone may be lost.
    let asked = eventually("the new size", Duration::from_secs(10), || {
        let _ = terminal.resize(40, 100, &ctr);
        let _ = terminal.send("\n");
        std::thread::sleep(Duration::from_millis(200));
        terminal.seen().contains("40 100")
    });
    asked.map_err(|_| format!("no 40 100 in {:?}", terminal.seen()))?;
    terminal.send("\x04")?;
    ctr.finish(Duration::from_secs(15))?.code(3)?;
    s.remove(&id)
}

fn exec_reads_stdin_until_its_end(s: &Scene) -> Check {
    let id = sleeper(s)?;
    let mut ctr = spawn(
        s.task_command(&[
            "exec",
            "--exec-id",
            "in",
            &id,
            "sh",
            "-c",
            "wc -c; echo end",
        ])
        .stdin(Stdio::piped()),
    )?;
    let block = vec![b'y'; 300_000];
    ctr.write(&block)?;
    std::thread::sleep(Duration::from_secs(2));
    ctr.close_stdin();
    let outcome = ctr.finish(Duration::from_secs(15))?.ok()?;
    assert_eq!(outcome.stdout, "300000\nend\n");
    s.remove(&id)
}

fn exec_detached_is_listed_and_killed_by_its_id(s: &Scene) -> Check {
    let id = sleeper(s)?;
    s.task(&["exec", "-d", "--exec-id", "beside", &id, "sleep", "2000"])?
        .ok()?;
    let table = s.task(&["ps", &id])?.ok()?.stdout;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains("beside"), "the exec's id is not in {table}");
    s.task(&["kill", "-s", "SIGKILL", "--exec-id", "beside", &id])?
        .ok()?;
    eventually("the exec is gone", Duration::from_secs(10), || {
        s.task(&["ps", &id])
            .is_ok_and(|o| o.stdout.lines().count() == 2)
    })?;
    s.remove(&id)
}

fn attach_gets_what_was_printed_before_and_after(s: &Scene) -> Check {
    let id = s.id("attach");
    // The first second is the starting client's, which may still read.
    let script = "sleep 1; echo before; sleep 2; echo after; exit 6";
    s.run(&["-d"], &id, &["sh", "-c", script])?.ok()?;
    std::thread::sleep(Duration::from_millis(1500));
    let attached = spawn(s.task_command(&["attach", &id]).stdin(Stdio::piped()))?;
    let outcome = attached.finish(Duration::from_secs(20))?.code(6)?;
    assert_eq!(outcome.stdout, "before\nafter\n");
    Ok(())
}
