//! `ctr run`: what a first container does and says.

use std::time::Duration;

use rsrun_tests::command;
use rsrun_tests::spec;
use rsrun_tests::suite::{Case, Check};
use rsrun_tests::terminal::Terminal;

use crate::scene::Scene;

pub fn cases() -> Vec<Case<Scene>> {
    rsrun_tests::cases![
        60 s: run_prints_output, run_passes_args_env_and_cwd, run_as_another_user,
            run_exits_with_the_code_of_its_process, run_exits_with_137_when_killed,
            run_of_a_missing_binary_fails_and_leaves_nothing, run_of_a_directory_is_refused,
            run_with_terminal_is_a_terminal, terminal_of_run_follows_resize,
            stdin_reaches_the_process_and_its_end_closes_it, run_leaves_nothing_behind,
            an_id_can_be_used_again_after_a_failed_create, long_arguments_arrive_whole;
    ]
}

fn run_prints_output(s: &Scene) -> Check {
    let id = s.id("run");
    let outcome = s
        .run(&["--rm"], &id, &["sh", "-c", "echo out; echo err >&2"])?
        .ok()?;
    assert_eq!(outcome.stdout, "out\n");
    assert_eq!(outcome.stderr, "err\n");
    Ok(())
}

fn run_passes_args_env_and_cwd(s: &Scene) -> Check {
    let script =
        "echo $# \"$1\" \"$2\" $COLOUR; pwd; hostname >/dev/null; env | grep -c TTRPC_ADDRESS";
    let flags = ["--rm", "--env", "COLOUR=blue", "--cwd", "/tmp"];
    let outcome = s.run(
        &flags,
        &s.id("args"),
        &["sh", "-c", script, "sh", "a b", ""],
    )?;
    // grep -c found none, so it answers 1: the shim's environment is not the container's.
    let outcome = outcome.code(1)?;
    assert_eq!(outcome.stdout, "2 a b  blue\n/tmp\n0\n");
    Ok(())
}

fn run_as_another_user(s: &Scene) -> Check {
    let id = s.id("user");
    let script = "id -u; id -g; id -G; echo open > /dev/stdout";
    let mut spec = spec::minimal(
        &s.containerd.places.rootfs,
        &format!("/e2e/{id}"),
        &["sh", "-c", script],
    );
    spec["process"]["user"] =
        serde_json::json!({"uid": 1000, "gid": 1001, "additionalGids": [1002]});
    let file = s.containerd.directory().join(format!("{id}.json"));
    std::fs::write(&file, serde_json::to_vec(&spec)?)?;

    let mut ctr = s.containerd.ctr_command();
    ctr.args([
        "run",
        "--rm",
        "--runtime",
        &s.containerd.places.runtime,
        "--config",
    ])
    .arg(&file)
    .arg(&id);
    let outcome = command::run(&mut ctr, Duration::from_secs(30))?.ok()?;
    assert_eq!(outcome.stdout, "1000\n1001\n1001 1002\nopen\n");
    Ok(())
}

fn run_exits_with_the_code_of_its_process(s: &Scene) -> Check {
    for code in [0, 1, 42, 255] {
        s.run(
            &["--rm"],
            &s.id("code"),
            &["sh", "-c", &format!("exit {code}")],
        )?
        .code(code)?;
    }
    Ok(())
}

fn run_exits_with_137_when_killed(s: &Scene) -> Check {
    let id = s.id("killed");
    let running = s.run_beside(&["--rm"], &id, &["sleep", "1000"])?;
    s.await_status(&id, "RUNNING")?;
    s.task(&["kill", "-s", "SIGKILL", &id])?.ok()?;
    running.finish(Duration::from_secs(15))?.code(137)?;
    Ok(())
}

fn run_of_a_missing_binary_fails_and_leaves_nothing(s: &Scene) -> Check {
    let id = s.id("missing");
    s.run(&["--rm"], &id, &["nosuchprogram"])?
        .refused("executable file not found")?;
    s.nothing_remains(&id, Duration::from_secs(5))?;

    let id = s.id("missing");
    s.run(&["--rm"], &id, &["/bin/nosuchprogram"])?
        .refused("no such file or directory")?;
    s.nothing_remains(&id, Duration::from_secs(5))
}

fn run_of_a_directory_is_refused(s: &Scene) -> Check {
    let id = s.id("directory");
    s.run(&["--rm"], &id, &["/tmp"])?
        .refused("permission denied")
        .or_else(|_| {
            // Later runc says what it is.
            s.run(&["--rm"], &s.id("directory"), &["/tmp"])?
                .refused("is a directory")
        })?;
    s.nothing_remains(&id, Duration::from_secs(5))
}

fn run_with_terminal_is_a_terminal(s: &Scene) -> Check {
    let id = s.id("tty");
    let mut terminal = Terminal::new(33, 111)?;
    let script = "tty; test -t 0 && test -t 1 && test -t 2 && echo all; read line; echo got $line; \
                  test -c /dev/console && echo console; exit 5";
    let ctr = terminal.spawn(&mut s.run_command(&["--rm", "-t"], &id, &["sh", "-c", script]))?;
    terminal.expect("/dev/pts/0")?;
    terminal.expect("all")?;
    terminal.send("words\n")?;
    terminal.expect("got words")?;
    terminal.expect("console")?;
    ctr.finish(Duration::from_secs(15))?.code(5)?;
    Ok(())
}

fn terminal_of_run_follows_resize(s: &Scene) -> Check {
    let id = s.id("size");
    let mut terminal = Terminal::new(24, 80)?;
    let script = "echo ready; while read line; do stty size; done";
    let ctr = terminal.spawn(&mut s.run_command(&["--rm", "-t"], &id, &["sh", "-c", script]))?;
    terminal.expect("ready")?;
    // ctr passes on what comes before it listens for SIGWINCH, so one signal alone may be lost.
    let asked = command::eventually("the new size", Duration::from_secs(10), || {
        let _ = terminal.resize(51, 133, &ctr);
        let _ = terminal.send("\n");
        std::thread::sleep(Duration::from_millis(200));
        terminal.seen().contains("51 133")
    });
    asked.map_err(|_| format!("no 51 133 in {:?}", terminal.seen()))?;
    terminal.send("\x04")?;
    ctr.finish(Duration::from_secs(15))?.code(0)?;
    Ok(())
}

fn stdin_reaches_the_process_and_its_end_closes_it(s: &Scene) -> Check {
    let mut ctr = s.run_beside(&["--rm"], &s.id("stdin"), &["sh", "-c", "cat; echo end"])?;
    ctr.write(b"through the pipe\n")?;
    // ctr loses an end of input that comes before it has started the task.
    std::thread::sleep(rsrun_tests::pace::patient(Duration::from_secs(2)));
    ctr.close_stdin();
    let outcome = ctr.finish(Duration::from_secs(15))?.ok()?;
    assert_eq!(outcome.stdout, "through the pipe\nend\n");
    Ok(())
}

fn run_leaves_nothing_behind(s: &Scene) -> Check {
    let id = s.id("clean");
    s.run(&["--rm"], &id, &["true"])?.ok()?;
    s.nothing_remains(&id, Duration::from_secs(5))
}

fn an_id_can_be_used_again_after_a_failed_create(s: &Scene) -> Check {
    let id = s.id("again");
    s.run(&["--rm"], &id, &["nosuchprogram"])?
        .refused("not found")?;
    // ctr itself keeps the container's record when Create failed.
    let _ = s.containerd.ctr(&["containers", "rm", &id])?;
    assert_eq!(
        s.run(&["--rm"], &id, &["echo", "back"])?.ok()?.stdout,
        "back\n"
    );
    Ok(())
}

fn long_arguments_arrive_whole(s: &Scene) -> Check {
    let long = "x".repeat(100_000);
    let outcome = s
        .run(
            &["--rm"],
            &s.id("long"),
            &["sh", "-c", "echo ${#1}", "sh", &long],
        )?
        .ok()?;
    assert_eq!(outcome.stdout, "100000\n");
    Ok(())
}
