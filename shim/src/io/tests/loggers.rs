//! Output into logging programs. They are started by a shell here, by the core in the shim.

use std::io::Write;
use std::process::{Command, Stdio as Standard};
use std::time::{Duration, Instant};

use rsrun_core::sys::pidfd::pidfd_open;

use super::*;
use crate::io::logger::{Logger, order};
use crate::io::uri::{LoggerUri, Readiness};
use crate::io::{Launched, Program, fifo};

/// Places three descriptors as 3, 4 and 5, and executes the rest of its arguments.
const PLACE: &str = r#"exec 3<&0 4<&1 5>&2 0</dev/null 1>/dev/null 2>&1; exec "$0" "$@""#;

#[allow(
    clippy::zombie_processes,
    reason = "the shim's reaper is not there, and a logger outlives the launch"
)]
fn by_shell() -> Launch {
    Arc::new(|program: Program| {
        let mut fds = program.fds.into_iter();
        let mut next = || Standard::from(fds.next().unwrap());
        let (stdin, stdout, stderr) = (next(), next(), next());
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(PLACE).arg(&program.path);
        command.args(program.args.iter().skip(1));
        command.env_clear();
        for variable in &program.env {
            let (name, value) = variable.to_str().unwrap().split_once('=').unwrap();
            command.env(name, value);
        }
        let child = command
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        Ok(Launched {
            pidfd: pidfd_open(pid).unwrap(),
        })
    })
}

fn script(text: &str, readiness: Readiness, args: &[&Path]) -> LoggerUri {
    let mut all = vec!["-c".into(), text.into(), "logger".into()];
    all.extend(args.iter().map(|arg| arg.into()));
    LoggerUri {
        path: "/bin/sh".into(),
        args: all,
        readiness,
    }
}

struct Rig {
    life: Arc<crate::io::life::Life>,
    meter: Arc<crate::io::meter::Meter>,
    stdout: File,
    stderr: File,
    task: tokio::task::JoinHandle<()>,
}

async fn start(uri: LoggerUri) -> rsrun_core::Result<Rig> {
    let (stdout_read, stdout) = fifo::owned_pipe(0, 0)?;
    let (stderr_read, stderr) = fifo::owned_pipe(0, 0)?;
    let order = order("box", uri, "tests", &by_shell());
    let logger = Logger::start(order, [stdout_read, stderr_read]).await?;
    let life = Arc::new(crate::io::life::Life::new()?);
    let meter = crate::io::meter::Meter::new("logger", tokio::sync::watch::Sender::new(0));
    let (of_task, its_meter) = (life.clone(), meter.clone());
    let task = tokio::spawn(async move { logger.watch(&of_task, &its_meter).await });
    Ok(Rig {
        life,
        meter,
        stdout: File::from(stdout),
        stderr: File::from(stderr),
        task,
    })
}

#[tokio::test]
async fn a_logger_gets_three_descriptors_two_variables_and_all_output() {
    let dir = Dir::new();
    let text = r#"env | sort >"$1.env"; ls /proc/$$/fd >"$1.fds"; echo >&5; exec 5>&-; cat <&3 >"$1.out"; cat <&4 >"$1.err""#;
    let base = dir.join("log");
    let mut rig = start(script(text, Readiness::Byte, &[&base]))
        .await
        .unwrap();
    rig.stdout.write_all(b"to out\n").unwrap();
    rig.stderr.write_all(b"to err\n").unwrap();
    drop((rig.stdout, rig.stderr));
    rig.life.set_exited();
    rig.task.await.unwrap();
    let read = |ending: &str| fs::read_to_string(format!("{}.{ending}", base.display())).unwrap();
    assert_eq!(read("out"), "to out\n");
    assert_eq!(read("err"), "to err\n");
    let env: Vec<String> = read("env")
        .lines()
        .filter(|line| {
            !line.starts_with("PWD=") && !line.starts_with("_=") && !line.starts_with("SHLVL=")
        })
        .map(Into::into)
        .collect();
    assert_eq!(env, ["CONTAINER_ID=box", "CONTAINER_NAMESPACE=tests"]);
}

#[tokio::test]
async fn a_strict_logger_that_does_not_call_ready_is_an_error_and_another_is_not() {
    let quiet = "exec 5>&-; exec sleep 60";
    let error = start(script(quiet, Readiness::Byte, &[]))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("did not call ready"), "{error}");
    let rig = start(script(quiet, Readiness::ByteOrEnd, &[]))
        .await
        .unwrap();
    let began = Instant::now();
    rig.life.set_stopped();
    rig.task.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "SIGTERM ends it");
}

#[tokio::test]
async fn a_logger_that_lingers_after_the_end_of_output_is_ended() {
    let rig = start(script("echo >&5; exec sleep 60", Readiness::Byte, &[]))
        .await
        .unwrap();
    drop((rig.stdout, rig.stderr));
    rig.life.set_exited();
    let began = Instant::now();
    rig.task.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_logger_that_dies_is_started_again_and_goes_on_with_the_next_byte() {
    let dir = Dir::new();
    let text = r#"echo >&5; exec 5>&-; IFS= read -r line <&3; echo "$line" >>"$1""#;
    let log = dir.join("log");
    let began = Instant::now();
    let mut rig = start(script(text, Readiness::Byte, &[&log])).await.unwrap();
    rig.stdout.write_all(b"one\n").unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Its reader is dead, and this neither blocks nor fails.
    rig.stdout.write_all(b"two\n").unwrap();
    while fs::read_to_string(&log).unwrap_or_default() != "one\ntwo\n" {
        assert!(!rig.task.is_finished() && began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rig.life.set_stopped();
    rig.task.await.unwrap();
}

#[tokio::test]
#[ignore = "ten seconds: a logger dies four times"]
async fn a_logger_that_dies_again_and_again_blocks_nobody() {
    let rig = start(script("exit 1", Readiness::ByteOrEnd, &[]))
        .await
        .unwrap();
    joined(write_pattern(rig.stdout.into(), 1 << 20, 4096)).await;
    drop(rig.stderr);
    rig.task.await.unwrap();
    assert_eq!(rig.meter.lost(), 1 << 20);
}

#[tokio::test]
async fn a_logger_that_the_policy_does_not_know_is_not_launched() {
    let request = Request {
        stdout: "binary:///bin/sh?-c=id".into(),
        ..request()
    };
    let error = crate::io::Stdio::prepare(&request, &no_logger())
        .await
        .err()
        .unwrap();
    assert_eq!(*error.kind(), rsrun_core::ErrorKind::Denied, "{error}");
}
