//! The shim as a program: `start`, `-info`, and the process that then serves.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use containerd_shim_protos::types::introspection::RuntimeInfo;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protobuf::Message;
use rsrun_tests::by_hand::{ByHand, Manner, Started};
use rsrun_tests::command::{self, eventually};
use rsrun_tests::containerd::{SOCKETS, socket_name};
use rsrun_tests::proc;
use rsrun_tests::suite::{Case, Check, skip};
use rsrun_tests::task::{Streams, Task};
use serde_json::Value;

pub fn cases() -> Vec<Case<ByHand>> {
    rsrun_tests::cases![
        60 s: start_answers_as_its_caller_understands, start_names_the_socket_as_everyone_computes_it,
            start_in_a_group_that_runs_gives_its_address, racing_starts_of_a_pod_make_one_shim,
            start_after_a_crash_takes_the_stale_socket, start_without_what_it_needs_fails_with_words,
            a_start_that_is_killed_before_its_answer_leaves_no_shim,
            info_describes_the_runtime, version_is_printed,
            the_serving_process_is_well_behaved;
    ]
}

pub const FIVE_SECONDS: Duration = Duration::from_secs(5);

pub fn prepared(s: &ByHand, id: &str, group: &str) -> Check {
    let mut spec = s.spec(id, &["sleep", "1000"]);
    spec["annotations"]["io.kubernetes.cri.sandbox-id"] = group.into();
    s.prepare(id, &spec)
}

pub fn shim_of(task: &Task) -> Check<Pid> {
    Ok(Pid::from_raw(task.connect()?.0.try_into()?))
}

pub fn serving(s: &ByHand) -> Vec<Pid> {
    let ours = |line: &[String]| {
        line.first()
            .is_some_and(|a| a.ends_with(&s.places.shim_name()))
            && line.iter().any(|a| a == s.ctr_ns())
    };
    proc::all()
        .into_iter()
        .filter(|p| ours(&proc::command_line(*p)))
        .collect()
}

fn start_answers_as_its_caller_understands(s: &ByHand) -> Check {
    prepared(s, "answer", "answer")?;
    // The serving process opens it for writing and would wait for a reader.
    std::fs::write(s.bundle("answer").join("log"), "")?;
    let outcome = s.start_raw("answer")?.ok()?;
    assert_eq!(outcome.stderr, "");
    match s.manner {
        Manner::Legacy => {
            assert!(
                outcome.stdout.starts_with("unix:///") && !outcome.stdout.ends_with('\n'),
                "{outcome:?}"
            );
        }
        Manner::Bootstrap => {
            let result = containerd_shim_protos::bootstrap_api::BootstrapResult::parse_from_bytes(
                &outcome.bytes,
            )?;
            assert!(
                result.protocol == "ttrpc" && (2..=3).contains(&result.version),
                "{result:?}"
            );
        }
    }
    for shim in serving(s) {
        kill(shim, Signal::SIGKILL)?;
    }
    Ok(())
}

fn start_names_the_socket_as_everyone_computes_it(s: &ByHand) -> Check {
    prepared(s, "named", "pod-of-named")?;
    let started = s.start("named")?;
    let expected = Path::new(SOCKETS).join(socket_name(&s.address(), s.ctr_ns(), "pod-of-named"));
    assert_eq!(started.socket, expected);
    if !s.places.is_runc() || s.manner == Manner::Legacy {
        let written = std::fs::read_to_string(s.bundle("named").join("address"))?;
        assert_eq!(written, format!("unix://{}", expected.display()));
    }
    if !s.places.is_runc() {
        assert_eq!(
            std::fs::metadata(&expected)?.permissions().mode() & 0o777,
            0o600
        );
    }
    assert_eq!(
        std::fs::metadata(SOCKETS)?.permissions().mode() & 0o777,
        0o700
    );
    // The vector that containerd's own tests use.
    let known = socket_name(
        Path::new("/run/containerd/containerd.sock"),
        "k8s.io",
        "abc",
    );
    assert_eq!(
        known,
        "a99a1752d3a0fadfb1f869026f16760475df03a572e20f4ccea9e6c1e5470b72"
    );
    Ok(())
}

fn start_in_a_group_that_runs_gives_its_address(s: &ByHand) -> Check {
    prepared(s, "pause", "pod")?;
    prepared(s, "work", "pod")?;
    let (first, second) = (s.start("pause")?, s.start("work")?);
    assert_eq!(first.socket, second.socket);
    assert!(second.version <= first.version, "{second:?} {first:?}");
    assert_eq!(serving(s).len(), 1);
    if !s.places.is_runc() || s.manner == Manner::Legacy {
        assert!(s.bundle("work").join("address").exists());
    }
    Ok(())
}

fn racing_starts_of_a_pod_make_one_shim(s: &ByHand) -> Check {
    let ids: Vec<String> = (0..8).map(|n| format!("racer-{n}")).collect();
    for id in &ids {
        prepared(s, id, "pod")?;
    }
    let started: Vec<Check<Started>> = std::thread::scope(|scope| {
        let all: Vec<_> = ids.iter().map(|id| scope.spawn(|| s.start(id))).collect();
        all.into_iter().filter_map(|t| t.join().ok()).collect()
    });
    let mut sockets = Vec::new();
    for one in started {
        sockets.push(one?.socket);
    }
    sockets.dedup();
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    eventually("one shim serves", FIVE_SECONDS, || serving(s).len() == 1)
}

fn start_after_a_crash_takes_the_stale_socket(s: &ByHand) -> Check {
    prepared(s, "stale", "stale")?;
    let first = s.start("stale")?;
    kill(shim_of(&s.task(&first, "stale")?)?, Signal::SIGKILL)?;
    eventually("it has ended", FIVE_SECONDS, || serving(s).is_empty())?;
    assert!(first.socket.exists());
    let second = s.start("stale")?;
    assert_eq!(first.socket, second.socket);
    s.task(&second, "stale")?
        .create(&s.rootfs(), &Streams::default())?;
    Ok(())
}

fn a_start_that_is_killed_before_its_answer_leaves_no_shim(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: its shim serves on, and nobody knows");
    }
    prepared(s, "killed", "killed")?;
    s.keep_log("killed")?;
    // An answer that nobody reads: start comes as far as that and no further.
    let (reader, mut writer) = std::io::pipe()?;
    let room = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096))?;
    writer.write_all(&vec![0; room.try_into()?])?;
    let mut command = s.shim_command("killed")?;
    command.arg("start").stdin(Stdio::piped()).stdout(writer);
    let mut start = command::spawn_with(command.stderr(Stdio::piped()))?;
    if s.manner == Manner::Bootstrap {
        start.write(&s.bootstrap("killed").write_to_bytes()?)?;
    }
    start.close_stdin();
    let socket = Path::new(SOCKETS).join(socket_name(&s.address(), s.ctr_ns(), "killed"));
    let serves = || serving(s).len() == 2 && s.bundle("killed").join("address").exists();
    eventually("it serves", FIVE_SECONDS, serves)?;
    assert!(socket.exists());
    kill(start.pid(), Signal::SIGKILL)?;
    start.finish(FIVE_SECONDS)?.code(128 + 9)?;
    eventually("the shim ends", FIVE_SECONDS, || serving(s).is_empty())?;
    drop(reader);
    assert!(!socket.exists());
    let (_, outcome) = s.delete("killed")?;
    assert_eq!(outcome.stderr, "");
    Ok(())
}

fn start_without_what_it_needs_fails_with_words(s: &ByHand) -> Check {
    prepared(s, "bare", "bare")?;
    let mut nameless = Command::new(s.shim_command("bare")?.get_program());
    nameless
        .args(["-id", "bare", "-address", "/run/x.sock", "start"])
        .current_dir(s.bundle("bare"));
    let outcome = command::run(&mut nameless, FIVE_SECONDS)?;
    assert!(
        outcome.code != 0 && !outcome.stderr.is_empty(),
        "{outcome:?}"
    );
    if s.places.is_runc() {
        return Ok(());
    }
    // Never success without an answer: 2.4 takes empty output for one.
    std::fs::remove_file(s.bundle("bare").join("config.json"))?;
    std::fs::write(s.bundle("bare").join("log"), "")?;
    let outcome = s.start_raw("bare")?;
    assert!(
        outcome.code == 0
            || format!("{}{}", outcome.stdout, outcome.stderr).contains("config.json"),
        "{outcome:?}"
    );
    assert!(
        outcome.code != 0 || !outcome.bytes.is_empty(),
        "{outcome:?}"
    );
    if outcome.code == 0 {
        // It may be in its execve still, and has no command line then.
        eventually("it serves", FIVE_SECONDS, || !serving(s).is_empty())?;
    }
    for shim in serving(s) {
        kill(shim, Signal::SIGKILL)?;
    }
    eventually("it has ended", FIVE_SECONDS, || serving(s).is_empty())?;
    std::fs::write(
        s.bundle("bare").join("config.json"),
        "{\"annotations\": {\"a\": 5}",
    )?;
    let outcome = s.start_raw("bare")?;
    assert!(outcome.code != 0, "{outcome:?}");
    assert!(serving(s).is_empty());
    Ok(())
}

fn info_describes_the_runtime(s: &ByHand) -> Check {
    if s.places.is_runc() && s.manner == Manner::Legacy {
        return skip("differs from runc: 1.6 knows no -info");
    }
    let line = if s.manner == Manner::Legacy {
        "1.6"
    } else {
        "2.4"
    };
    let mut shim = Command::new(s.places.shim(line)?);
    let path = format!("{}:/usr/bin:/bin", s.places.runc_for(line).display());
    let outcome = command::run(
        shim.arg("-info").env_clear().env("PATH", path),
        FIVE_SECONDS,
    )?
    .ok()?;
    let about = RuntimeInfo::parse_from_bytes(&outcome.bytes)?;
    assert_eq!(about.name, s.places.runtime);
    assert!(!about.version.version.is_empty(), "{about:?}");
    assert_eq!(
        about.features.type_url,
        "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
    );
    let features: Value = serde_json::from_slice(&about.features.value)?;
    let lists = |at: &str, word: &str| {
        features
            .pointer(at)
            .and_then(Value::as_array)
            .is_some_and(|l| l.iter().any(|w| w == word))
    };
    assert!(lists("/mountOptions", "rro"), "{features}");
    assert!(lists("/linux/namespaces", "user"), "{features}");
    assert_eq!(
        features.pointer("/linux/mountExtensions/idmap/enabled"),
        Some(&Value::Bool(true))
    );
    Ok(())
}

fn version_is_printed(s: &ByHand) -> Check {
    let line = if s.manner == Manner::Legacy {
        "1.6"
    } else {
        "2.4"
    };
    let outcome = command::run(Command::new(s.places.shim(line)?).arg("-v"), FIVE_SECONDS)?.ok()?;
    assert!(!outcome.stdout.trim().is_empty());
    Ok(())
}

fn the_serving_process_is_well_behaved(s: &ByHand) -> Check {
    // `start` takes its caller's value and adds one; the caller is this test.
    let own: i32 = std::fs::read_to_string("/proc/self/oom_score_adj")?
        .trim()
        .parse()?;
    let task = s.running("polite", &["sleep", "1000"])?;
    let shim = shim_of(&task)?;
    let score: i32 = std::fs::read_to_string(format!("/proc/{shim}/oom_score_adj"))?
        .trim()
        .parse()?;
    assert_eq!(score, own + 1);
    for fd in [0, 1] {
        assert_eq!(
            std::fs::read_link(format!("/proc/{shim}/fd/{fd}"))?,
            Path::new("/dev/null")
        );
    }
    let group = nix::unistd::getpgid(Some(shim))?;
    assert_ne!(group, nix::unistd::getpgid(None)?);
    if s.places.is_runc() {
        return Ok(());
    }
    // Orphans of the container's side come back to the shim and are reaped.
    task.exec(
        "daemon",
        &["sh", "-c", "sleep 0.3 & exit 0"],
        &Streams::default(),
    )?;
    task.start("daemon")?;
    task.wait("daemon")?;
    std::thread::sleep(Duration::from_millis(600));
    let zombies: Vec<Pid> = proc::all()
        .into_iter()
        .filter(|p| {
            let stat = std::fs::read_to_string(format!("/proc/{p}/stat")).unwrap_or_default();
            stat.rsplit(") ")
                .next()
                .is_some_and(|r| r.starts_with(&format!("Z {shim} ")))
        })
        .collect();
    assert!(zombies.is_empty(), "{zombies:?}");
    Ok(())
}
