//! Does the runtime believe a `/proc` that is not the procfs of its own pid namespace, or that somebody has mounted on?
use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::runtime::{Output, finish};
use rsrun_tests::cli::suite::Suite;
use rsrun_tests::command::eventually;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;

pub(crate) fn cases(suite: &mut Suite) {
    suite.case("a_boot_id_that_was_mounted_over_is_not_recorded", |g| {
        g.differs_from_runc("that what tells of this boot is asked for where nobody can mount")?;
        let b = idle(g.bundle());
        let other = "mount -t tmpfs tmpfs /proc/sys/kernel/random
            echo 00000000-0000-4000-8000-000000000000 > /proc/sys/kernel/random/boot_id";
        in_other_proc(
            &b,
            &["--mount"],
            &format!("{other}\n$rsrun run --detach --bundle $2 $3"),
        );
        // Of another boot there is no process any more.
        assert_eq!(b.status(), "running");
        Ok(())
    });
    suite.case(
        "a_process_that_was_mounted_over_is_seen_all_the_same",
        |g| {
            g.differs_from_runc(
                "that what tells of a process is asked for where nobody can mount",
            )?;
            let b = idle(g.bundle());
            let out = in_other_proc(
                &b,
                &["--mount"],
                "$rsrun run --detach --pid-file $2/pid --bundle $2 $3
            mount -t tmpfs tmpfs /proc/$(cat $2/pid)
            $rsrun state $3",
            );
            assert!(out.contains(r#""status": "running""#), "{out}");
            Ok(())
        },
    );
    suite.case("a_container_may_see_a_procfs_of_any_kind", |g| {
        let usual = json!(["nosuid", "noexec", "nodev"]);
        let more = |word: &str| json!(["nosuid", "noexec", "nodev", word]);
        for options in [usual.clone(), more("ro"), more("hidepid=2")] {
            let mut b = g.bundle();
            b.set("/mounts/0/options", options.clone());
            b.args(&["/bin/cat", "/proc/self/comm"]);
            assert_eq!(b.printed(), "cat", "{options}");
        }
        Ok(())
    });
    suite.case("a_container_may_have_its_procfs_elsewhere", |g| {
        g.differs_from_runc("that nothing is asked of the container's own /proc")?;
        let mut b = g.bundle();
        b.set("/mounts/0/destination", json!("/tmp"))
            .shell("ls /proc; cat /tmp/self/comm");
        assert_eq!(b.printed(), "cat");
        Ok(())
    });
    suite.case("what_a_process_has_in_procfs_can_be_covered", |g| {
        for (list, path) in [
            ("maskedPaths", "/proc/self/fd"),
            ("maskedPaths", "/proc/1/attr"),
            ("maskedPaths", "/proc/thread-self/fd"),
            ("maskedPaths", "//proc/self"),
            ("maskedPaths", "/dev/fd"),
            ("maskedPaths", "/etc/way"),
            ("readonlyPaths", "/proc/self"),
            ("readonlyPaths", "/etc/way"),
            ("readonlyPaths", "/proc"),
        ] {
            let mut b = g.bundle();
            symlink("/proc/self/fd", b.rootfs("/etc/way")).expect("a link");
            // Its input is the container's own /dev/null all the same; a subshell is another process.
            b.set(&format!("/linux/{list}"), json!([path]))
                .shell("true; (test /dev/null -ef /dev/stdin && echo own); echo runs");
            let printed = b.printed();
            // runc's has the host's where the path is one of the process itself.
            assert!(printed.ends_with("runs"), "{path}: {printed}");
            assert!(
                g.runtime.runc.is_some() || printed.starts_with("own"),
                "{path}: {printed}"
            );
            b.call("create", &[]).ok();
            b.on(&["start"], &[]).ok();
            eventually("its end", Duration::from_secs(10), || {
                b.status() == "stopped"
            })
            .expect("it ends");
            b.on(&["delete"], &[]).ok();
        }
        Ok(())
    });
    suite.case("a_process_that_procfs_hides_is_seen_all_the_same", |g| {
        g.differs_from_runc("that what tells of a process is asked for where nothing is hidden")?;
        let mut b = g.bundle();
        b.args(&["/bin/sleep", "1000"])
            .set("/process/user", json!({"uid": 1000, "gid": 1000}));
        b.write();
        for hides in ["invisible,gid=12345", "ptraceable", "noaccess"] {
            let script = format!(
                "mount -t proc -o hidepid={hides} proc /proc
                $rsrun run --detach --bundle $2 $3
                for command in state delete; do
                    setpriv --bounding-set=-sys_ptrace --inh-caps=-sys_ptrace $rsrun $command $3 || true
                done
                $rsrun delete --force $3"
            );
            let out = in_other_proc(&b, &["--mount"], &script);
            assert!(out.contains(r#""status": "running""#), "{hides}: {out}");
        }
        Ok(())
    });
    suite.case("nobody_who_may_not_trace_looks_into_the_runtime", |g| {
        g.differs_from_runc("that its threads have the memory of who has every capability")?;
        let b = idle(g.bundle());
        // Of a process that is not dumpable procfs is root's, whatever its group.
        let belongs_to = |command: &mut Command, group: u32| {
            let mut child = command.stdin(Stdio::null()).spawn().expect("setpriv");
            let maps = format!("/proc/{}/maps", child.id());
            let name = format!("/proc/{}/comm", child.id());
            let found = eventually("its group", Duration::from_secs(5), || {
                fs::read_to_string(&name).is_ok_and(|name| name != "setpriv\n")
                    && fs::metadata(&maps).is_ok_and(|maps| maps.gid() == group)
            });
            child.kill().expect("an end");
            child.wait().expect("an end");
            found.expect("its group");
        };
        let as_another = || {
            let mut command = Command::new("setpriv");
            command.args(["--regid", "12345", "--clear-groups"]);
            command
        };
        belongs_to(as_another().args(["sleep", "1000"]), 12345);
        let mut run = as_another();
        run.arg(&b.runtime().path)
            .arg("--root")
            .arg(&b.runtime().root);
        run.args(["run", "--bundle"]).arg(&b.dir).arg(&b.id);
        belongs_to(&mut run, 0);
        Ok(())
    });
    suite.case("the_procfs_of_another_pid_namespace_is_not_asked", |g| {
        g.differs_from_runc("that pids are those of the caller's own namespace")?;
        let b = idle(g.bundle());
        // The number of the init is another process's there, or nobody's: when did that start?
        let out = in_other_proc(
            &b,
            &["--mount", "--pid", "--fork"],
            r#"$rsrun run --detach --pid-file $2/pid --bundle $2 $3
            mkdir $2/proc
            mount -t proc proc $2/proc
            set -- "$@" $(sed 's/.*) //' $2/proc/$(cat $2/pid)/stat)
            shift 23
            echo "started at $1""#,
        );
        let record = b.runtime().root.join(&b.id).join("state.json");
        let record = fs::read_to_string(record).expect("a record");
        let record: Value = serde_json::from_str(&record).expect("a record");
        let recorded = &record["startTime"];
        assert_eq!(out.trim(), format!("started at {recorded}"));
        Ok(())
    });
}

fn idle(mut b: Bundle<'_>) -> Bundle<'_> {
    b.args(&["/bin/sleep", "1000"]);
    b.write();
    b
}

/// What `script` prints in namespaces of its own: `$rsrun` is the runtime, `$2` the bundle, `$3` the container.
fn in_other_proc(b: &Bundle<'_>, namespaces: &[&str], script: &str) -> String {
    let script = format!("set -eu\nrsrun=\"$1 --root $4\"\n{script}");
    let mut command = Command::new("unshare");
    command
        .args(namespaces)
        .args(["--propagation", "private", "sh", "-c", &script, "sh"])
        .arg(&b.runtime().path)
        .arg(&b.dir)
        .arg(&b.id)
        .arg(&b.runtime().root)
        .stdin(Stdio::null());
    let Output { stdout, .. } = finish(command, &b.dir).ok();
    stdout
}
