//! B01, B04: who is born beside a hostile process, and the binary that it was born from.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::containment::scene::{Scene, stopped};
use rsrun_tests::containment::suite::Attacks;
use serde_json::{Value, json};

use crate::plant;

pub(crate) fn families(all: &mut Attacks) {
    b01_own_binary(all.family("b01"));
    b04_newcomers(all.family("b04"));
}

/// CVE-2019-5736: the runtime's binary by /proc/self/exe.
fn b01_own_binary(all: &mut Attacks) {
    const PROGRAMS: [(&str, &str); 3] = [
        ("itself", "/proc/self/exe"),
        ("a_link_to_itself", "/bin/self"),
        ("a_script_of_itself", "/bin/script"),
    ];
    for (what, program) in PROGRAMS {
        all.contained(format!("an_init_that_executes_{what}"), move |s| {
            let mut b = s.bundle();
            selves(&b);
            stopped(b.args(&[program, "--version"]).run());
            Ok(())
        });
        all.contained(format!("an_exec_that_executes_{what}"), move |s| {
            let mut b = s.bundle();
            selves(&b);
            b.hold();
            stopped(b.on(&["exec"], &[program, "--version"]));
            Ok(())
        });
    }
    const TRUE: &[&str] = &["/bin/true"];
    for (what, capability, host_pids, program) in [
        ("a_tracer", "CAP_SYS_PTRACE", false, TRUE),
        ("one_that_sees_the_host", "CAP_KILL", true, TRUE),
        ("one_without_capabilities", "CAP_KILL", false, TRUE),
        (
            "one_that_it_is_executed_beside",
            "CAP_KILL",
            false,
            &["/proc/self/exe", "--version"],
        ),
    ] {
        all.contained(
            format!("the_binary_of_newcomers_written_by_{what}"),
            move |s| {
                let seen = hunted(s, capability, host_pids, false, program);
                assert_eq!(seen["written"], json!([]), "{seen}");
                Ok(())
            },
        );
    }
    // A startContainer hook is born when its container is started, beside others of its pid namespace.
    all.contained("the_binary_of_hooks_written_by_a_tracer", |s| {
        let mut b = s.bundle();
        let hook = json!({"path": "/bin/true", "args": ["true"]});
        b.set("/hooks/startContainer", json!([hook, hook, hook, hook]))
            .args(&["/bin/sleep", "1000"])
            .write();
        b.call("create", &[]).ok();
        let mut beside = s.bundle();
        plant::capable(&mut beside, "CAP_SYS_PTRACE");
        beside.join("pid", &format!("/proc/{}/ns/pid", b.state()["pid"]));
        let hunt = Hunt::begin(beside);
        b.on(&["start"], &[]).ok();
        let seen = hunt.end();
        assert_eq!(seen["written"], json!([]), "{seen}");
        Ok(())
    });
}

fn selves(b: &Bundle<'_>) {
    plant::link(b, "/bin/self", "/proc/self/exe");
    let script = plant::file(b, "/bin/script", "#!/proc/self/exe\n");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("a mode");
}

/// CVE-2016-9962: who is born beside a hostile process is seen before it is confined.
fn b04_newcomers(all: &mut Attacks) {
    for (what, capability, host_pids, userns) in [
        ("a_tracer", "CAP_SYS_PTRACE", false, false),
        ("an_administrator", "CAP_SYS_ADMIN", false, false),
        (
            "a_tracer_in_a_user_namespace",
            "CAP_SYS_PTRACE",
            false,
            true,
        ),
        ("one_without_capabilities", "CAP_KILL", false, false),
    ] {
        all.contained(format!("newcomers_hunted_by_{what}"), move |s| {
            let seen = hunted(s, capability, host_pids, userns, &["/bin/true"]);
            assert!(seen["host"].as_array().is_some_and(Vec::is_empty), "{seen}");
            assert!(seen["newcomers"].as_u64().is_some_and(|n| n > 0), "{seen}");
            Ok(())
        });
    }
    all.control_of_look("a_newcomer_with_the_host_s_root", |s| {
        let mut b = s.bundle();
        plant::capable(&mut b, "CAP_SYS_PTRACE");
        let hunt = Hunt::begin(b);
        let pid = hunt.bundle.state()["pid"].to_string();
        let status = Command::new("nsenter")
            .args(["-p", "-t", &pid, "/bin/sleep", "1"])
            .status();
        assert!(status.is_ok_and(|s| s.success()));
        let seen = hunt.end();
        assert!(seen["host"].to_string().contains("root"), "{seen}");
        // CVE-2019-5736 too: what it was born from stays in the hunter's hands.
        assert!(seen["written"] != json!([]), "{seen}");
        Ok(())
    });
}

/// What a container that hunts gets of processes that are added to it, more of them where it is a tracer.
fn hunted(s: &Scene, capability: &str, host_pids: bool, userns: bool, program: &[&str]) -> Value {
    let mut b = s.bundle();
    plant::capable(&mut b, capability);
    if host_pids && let Some(list) = b.spec["linux"]["namespaces"].as_array_mut() {
        list.retain(|n| n["type"] != "pid");
    }
    if userns {
        b.user_namespace(&[(0, 100_000, 65_536)]);
    }
    let hunt = Hunt::begin(b);
    let newcomers = if capability == "CAP_SYS_PTRACE" { 4 } else { 2 };
    for _ in 0..newcomers {
        stopped(hunt.bundle.on(&["exec"], program));
    }
    hunt.end()
}

/// A container whose init goes for every newcomer.
struct Hunt<'g> {
    bundle: Bundle<'g>,
    said: PathBuf,
}

impl<'g> Hunt<'g> {
    fn begin(mut b: Bundle<'g>) -> Self {
        // Rights of files are not to be what stops it.
        plant::capable(&mut b, "CAP_DAC_OVERRIDE");
        b.args(&["/bin/probe", "hunt", "60"]);
        let hunt = Self {
            said: b.dir.join("hunted"),
            bundle: b,
        };
        hunt.bundle.detach_into(&hunt.said);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !hunt.text().contains("hunting") {
            assert!(Instant::now() < deadline, "it does not hunt");
            std::thread::sleep(Duration::from_millis(10));
        }
        hunt
    }

    fn end(self) -> Value {
        plant::file(&self.bundle, "/enough", "");
        self.bundle.wait_for("stopped");
        let text = self.text();
        let line = text.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}"))
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }
}
