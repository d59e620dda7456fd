//! Does the runtime believe a `/proc` that is not the procfs of its own pid namespace, or that somebody has mounted on?
use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::runtime::{Output, finish};
use rsrun_tests::cli::suite::Suite;
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};

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
