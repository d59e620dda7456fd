//! Every kind of stdio that a request can name.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rsrun_tests::by_hand::ByHand;
use rsrun_tests::command::eventually;
use rsrun_tests::fifo;
use rsrun_tests::pace::patient;
use rsrun_tests::proc;
use rsrun_tests::suite::{Case, Check, skip};
use rsrun_tests::task::{INIT, Streams, Task};

pub fn cases() -> Vec<Case<ByHand>> {
    rsrun_tests::cases![
        60 s: no_streams_are_dev_null, one_stream_alone_is_enough, a_fifo_may_have_its_scheme,
            a_file_takes_both_streams_and_is_appended_to, a_logger_gets_both_streams_and_the_names,
            a_logger_of_the_second_kind_must_say_that_it_is_ready, a_logger_that_is_missing_fails_the_call,
            a_logger_that_nobody_allowed_is_refused,
            an_exec_may_have_a_logger, an_unknown_scheme_is_refused,
            a_user_may_open_its_own_streams_again, a_terminal_may_go_to_a_file;
    ]
}

fn ended(task: &Task, streams: &Streams, s: &ByHand) -> Check<u32> {
    task.create(&s.rootfs(), streams)?;
    task.start(INIT)?;
    let status = task.wait(INIT)?.status;
    task.delete(INIT)?;
    Ok(status)
}

fn no_streams_are_dev_null(s: &ByHand) -> Check {
    let script = "for n in 0 1 2; do f=/proc/1/fd/$n; \
                  test $(stat -L -c %t:%T $f) = 1:3 || exit 1$n; \
                  test $(stat -L -c %d:%i $f) != $1 || exit 2$n; done; \
                  set -- /proc/1/fd/*; test $# -le 4 || exit 30; read x && exit 31; exit 0";
    // Not the host's own: root inside could take its mode away from everyone.
    let host = std::fs::metadata("/dev/null")?;
    let host = format!("{}:{}", host.dev(), host.ino());
    let task = s.fresh("none", &["sh", "-c", script, "sh", &host])?;
    assert_eq!(ended(&task, &Streams::default(), s)?, 0);
    Ok(())
}

fn one_stream_alone_is_enough(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: with one stream its shim wants the others too");
    }
    let task = s.running("one", &["sleep", "1000"])?;
    let path = fifo::make(s.directory(), "one-out")?;
    let mut reader = fifo::Reader::open(&path, Duration::from_secs(20))?;
    let streams = Streams {
        stdout: path.display().to_string(),
        ..Default::default()
    };
    task.exec(
        "e",
        &[
            "sh",
            "-c",
            "echo out; echo err >&2; test $(stat -L -c %t:%T /proc/self/fd/2) = 1:3",
        ],
        &streams,
    )?;
    task.start("e")?;
    assert_eq!(reader.all()?, b"out\n");
    assert_eq!(task.wait("e")?.status, 0);
    Ok(())
}

fn a_fifo_may_have_its_scheme(s: &ByHand) -> Check {
    let task = s.fresh("scheme", &["sh", "-c", "echo out; echo err >&2"])?;
    let (out, err) = (
        fifo::make(s.directory(), "out")?,
        fifo::make(s.directory(), "err")?,
    );
    let mut reader = fifo::Reader::open(&out, Duration::from_secs(20))?;
    let mut errors = fifo::Reader::open(&err, Duration::from_secs(20))?;
    let streams = Streams {
        stdout: format!("fifo://{}", out.display()),
        stderr: format!("fifo://{}", err.display()),
        ..Default::default()
    };
    if s.places.is_runc() {
        return skip("differs from runc: it opens the whole string as a path");
    }
    assert_eq!(ended(&task, &streams, s)?, 0);
    assert_eq!(
        (reader.all()?, errors.all()?),
        (b"out\n".to_vec(), b"err\n".to_vec())
    );
    Ok(())
}

fn a_file_takes_both_streams_and_is_appended_to(s: &ByHand) -> Check {
    let file = s.directory().join("deep/er/log");
    let uri = format!("file://{}", file.display());
    for round in 1..=2 {
        let id = format!("file-{round}");
        let task = s.fresh(
            &id,
            &[
                "sh",
                "-c",
                &format!("echo out {round}; echo err {round} >&2"),
            ],
        )?;
        let streams = Streams {
            stdout: uri.clone(),
            stderr: uri.clone(),
            ..Default::default()
        };
        assert_eq!(ended(&task, &streams, s)?, 0);
    }
    let said = std::fs::read_to_string(&file)?;
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort();
    assert_eq!(lines, ["err 1", "err 2", "out 1", "out 2"]);
    assert_eq!(
        std::fs::metadata(&file)?.permissions().mode() & 0o777,
        0o644
    );
    Ok(())
}

/// A logger as the interface asks for it: streams on 3 and 4, readiness on 5.
fn logger(s: &ByHand, ready: &str) -> Check<PathBuf> {
    let path = s.directory().join("logger");
    let script = format!(
        "#!/bin/sh\n\
         # Called as: logger into DIRECTORY\n\
         env > \"$2/env\"; ls -l /proc/self/fd > \"$2/fds\"\n\
         cat <&3 > \"$2/out\" 5>&- & cat <&4 > \"$2/err\" 5>&- &\n\
         {ready}\n\
         wait\necho done > \"$2/done\"\n"
    );
    std::fs::write(&path, script)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    let allowed = format!("logger {}\n", path.display());
    std::fs::write(s.directory().join("stdio.conf"), allowed)?;
    Ok(path)
}

const SAYS_READY: &str = "printf x >&5; exec 5>&-";

fn uri(s: &ByHand, scheme: &str, ready: &str) -> Check<(String, PathBuf)> {
    let into = s.directory().join("logs");
    std::fs::create_dir_all(&into)?;
    Ok((
        format!(
            "{scheme}://{}?into={}",
            logger(s, ready)?.display(),
            into.display()
        ),
        into,
    ))
}

fn both(uri: &str) -> Streams {
    Streams {
        stdout: uri.into(),
        stderr: uri.into(),
        ..Default::default()
    }
}

fn a_logger_gets_both_streams_and_the_names(s: &ByHand) -> Check {
    let (uri, into) = uri(s, "binary", SAYS_READY)?;
    let task = s.fresh("logged", &["sh", "-c", "seq 1 20000; echo err >&2; exit 3"])?;
    assert_eq!(ended(&task, &both(&uri), s)?, 3);
    let read = |name: &str| std::fs::read_to_string(into.join(name)).unwrap_or_default();
    let expected: String = (1..=20000).map(|n| format!("{n}\n")).collect();
    assert!(read("out") == expected, "{} bytes", read("out").len());
    assert_eq!(read("err"), "err\n");
    // The shell adds some of its own; nothing of the shim's may be there.
    let environment = read("env");
    assert!(
        environment.contains("CONTAINER_ID=logged\n"),
        "{environment}"
    );
    assert!(
        environment.contains(&format!("CONTAINER_NAMESPACE={}\n", s.ctr_ns())),
        "{environment}"
    );
    assert!(!environment.contains("TTRPC_ADDRESS"), "{environment}");
    let own = s.directory().join("logger").display().to_string();
    let runs = proc::all()
        .into_iter()
        .any(|p| proc::command_line(p).contains(&own));
    assert!(!runs, "the logger still runs");
    Ok(())
}

fn a_logger_of_the_second_kind_must_say_that_it_is_ready(s: &ByHand) -> Check {
    if s.places.is_runc() && s.manner == rsrun_tests::by_hand::Manner::Legacy {
        return skip("differs from runc: 1.6 knows no binary-v2");
    }
    let (good, into) = uri(s, "binary-v2", SAYS_READY)?;
    let task = s.fresh("ready", &["sh", "-c", "echo out"])?;
    assert_eq!(ended(&task, &both(&good), s)?, 0);
    assert_eq!(std::fs::read_to_string(into.join("out"))?, "out\n");

    let (bad, _) = uri(s, "binary-v2", "exec 5>&-; exit 1")?;
    let task = s.fresh("unready", &["sh", "-c", "echo out"])?;
    let answer = task.create(&s.rootfs(), &both(&bad));
    assert!(answer.is_err(), "{answer:?}");
    s.nothing_remains("unready")
}

fn a_logger_that_nobody_allowed_is_refused(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: it runs whatever an image's label names (CVE-2026-53488)");
    }
    let (uri, into) = uri(s, "binary", SAYS_READY)?;
    std::fs::remove_file(s.directory().join("stdio.conf"))?;
    let task = s.fresh("stranger", &["true"])?;
    for bad in [uri.as_str(), "binary:///bin/sh?-c=true", "binary:///bin/sh"] {
        let refusal = task
            .create(&s.rootfs(), &both(bad))
            .err()
            .ok_or("it was created")?;
        assert!(refusal.to_string().contains("stdio.conf"), "{refusal}");
    }
    assert!(!into.join("env").exists());
    s.nothing_remains("stranger")
}

fn a_logger_that_is_missing_fails_the_call(s: &ByHand) -> Check {
    let task = s.fresh("absent", &["true"])?;
    let refusal = task
        .create(&s.rootfs(), &both("binary:///nosuch/logger?a=b"))
        .err()
        .ok_or("it was created")?;
    assert!(refusal.to_string().contains("logger"), "{refusal}");
    s.nothing_remains("absent")
}

fn an_exec_may_have_a_logger(s: &ByHand) -> Check {
    let (uri, into) = uri(s, "binary", SAYS_READY)?;
    let task = s.running("execs", &["sleep", "1000"])?;
    task.exec("probe", &["sh", "-c", "echo from exec"], &both(&uri))?;
    task.start("probe")?;
    assert_eq!(task.wait("probe")?.status, 0);
    let begin = Instant::now();
    task.delete("probe")?;
    assert!(
        begin.elapsed() < patient(Duration::from_secs(5)),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(std::fs::read_to_string(into.join("out"))?, "from exec\n");
    assert!(std::fs::read_to_string(into.join("env"))?.contains("CONTAINER_ID=probe\n"));
    Ok(())
}

fn an_unknown_scheme_is_refused(s: &ByHand) -> Check {
    let keeper = s.running("keeper", &["sleep", "1000"])?;
    s.prepare("odd", &s.spec("odd", &["true"]))?;
    let task = s.task_on(keeper.client.clone(), "odd");
    for bad in [
        "carrier-pigeon:///x",
        "ttrpc+unix:///x?streaming_id=1",
        "binary://",
        "file://",
    ] {
        let answer = task.create(&s.rootfs(), &both(bad));
        if s.places.is_runc() && !bad.starts_with("carrier") {
            let _ = task.delete(INIT);
            continue;
        }
        assert!(answer.is_err(), "{bad}: {answer:?}");
        s.nothing_remains("odd")?;
    }
    Ok(())
}

fn a_user_may_open_its_own_streams_again(s: &ByHand) -> Check {
    let mut spec = s.spec(
        "user",
        &[
            "sh",
            "-c",
            "echo again > /dev/stdout; echo err > /dev/stderr",
        ],
    );
    spec["process"]["user"] = serde_json::json!({"uid": 1000, "gid": 1000});
    s.prepare("user", &spec)?;
    let task = s.task(&s.start("user")?, "user")?;
    let (out, err) = (
        fifo::make(s.directory(), "out")?,
        fifo::make(s.directory(), "err")?,
    );
    let mut reader = fifo::Reader::open(&out, Duration::from_secs(20))?;
    let mut errors = fifo::Reader::open(&err, Duration::from_secs(20))?;
    let streams = Streams {
        stdout: out.display().to_string(),
        stderr: err.display().to_string(),
        ..Default::default()
    };
    task.create(&s.rootfs(), &streams)?;
    task.start(INIT)?;
    assert_eq!(
        (reader.all()?, errors.all()?),
        (b"again\n".to_vec(), b"err\n".to_vec())
    );
    assert_eq!(task.wait(INIT)?.status, 0);
    Ok(())
}

fn a_terminal_may_go_to_a_file(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: it opens the URI as a fifo");
    }
    let file = s.directory().join("tty.log");
    let mut spec = s.spec("tty", &["sh", "-c", "test -t 1 && echo yes; stty size"]);
    spec["process"]["terminal"] = true.into();
    spec["process"]["consoleSize"] = serde_json::json!({"height": 31, "width": 97});
    s.prepare("tty", &spec)?;
    let task = s.task(&s.start("tty")?, "tty")?;
    let streams = Streams {
        terminal: true,
        stdout: format!("file://{}", file.display()),
        ..Default::default()
    };
    assert_eq!(ended(&task, &streams, s)?, 0);
    let said = || std::fs::read_to_string(&file).unwrap_or_default();
    eventually("it is written", Duration::from_secs(5), || {
        said() == "yes\r\n31 97\r\n"
    })
    .map_err(|_| format!("{:?}", said()).into())
}
