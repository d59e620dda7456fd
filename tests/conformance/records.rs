//! Can a container be told and deleted when its record is damaged, old or of another process?
use nix::sys::signal::{Signal, kill};
use rsrun_tests::cli::bundle::{Bundle, wait_exit};
use rsrun_tests::cli::suite::Suite;
use serde_json::{Value, json};
use std::fs;

pub(crate) fn cases(suite: &mut Suite) {
    records(suite);
}

/// The record of a container, whatever its files are called.
fn damage(b: &Bundle<'_>, change: &dyn Fn(&std::path::Path)) {
    let file = b.runtime().root.join(&b.id).join("state.json");
    assert!(file.exists(), "no record at {}", file.display());
    change(&file);
}

fn records(suite: &mut Suite) {
    type Damage = (&'static str, fn(&std::path::Path));
    let damages: [Damage; 4] = [
        ("empty", |f| fs::write(f, "").expect("written")),
        ("half_written", |f| {
            let text = fs::read(f).expect("a record");
            fs::write(f, &text[..text.len() / 2]).expect("written");
        }),
        ("of_another_kind", |f| {
            fs::write(f, "[1, 2, 3]").expect("written")
        }),
        ("missing", |f| fs::remove_file(f).expect("removed")),
    ];
    for (what, change) in damages {
        suite.case(
            format!("a_record_that_is_{what}_is_told_and_can_be_deleted_by_force"),
            move |g| {
                g.differs_from_runc("a damaged record never stops a forced delete")?;
                let mut b = g.bundle();
                b.hold();
                damage(&b, &|f| change(f));
                b.on(&["state"], &[]).refused();
                g.runtime.call(["list"]).ok();
                b.on(&["delete", "--force"], &[]).ok();
                assert!(
                    !b.runtime().root.join(&b.id).exists(),
                    "the record is still there"
                );
                assert!(
                    !b.cgroup("").exists()
                        || fs::read_to_string(b.cgroup("cgroup.procs")).is_ok_and(|p| p.is_empty()),
                    "the container lives on"
                );
                Ok(())
            },
        );
    }
    suite.case(
        "a_record_from_before_a_reboot_is_stopped_and_can_be_deleted",
        |g| {
            g.differs_from_runc("the record holds the boot's id")?;
            let mut b = g.bundle();
            let pid = b.hold();
            let own = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("an id");
            damage(&b, &|file| {
                let text = fs::read_to_string(file).expect("a record");
                assert!(
                    text.contains(own.trim()),
                    "the record does not hold the boot's id"
                );
                fs::write(
                    file,
                    text.replace(own.trim(), "00000000-0000-4000-8000-000000000000"),
                )
                .expect("written");
            });
            assert_eq!(b.status(), "stopped");
            kill(pid, Signal::SIGKILL).expect("a signal");
            wait_exit(pid);
            b.on(&["delete"], &[]).ok();
            Ok(())
        },
    );
    suite.case(
        "a_pid_that_another_process_has_now_is_not_the_container_s",
        |g| {
            let mut b = g.bundle();
            let pid = b.hold();
            // As if the init had ended long ago and its number were used again: the suite's own parent.
            damage(&b, &|file| {
                let mut record: Value =
                    serde_json::from_str(&fs::read_to_string(file).expect("a record"))
                        .expect("JSON");
                let key = if record.get("init_process_pid").is_some() {
                    "init_process_pid"
                } else {
                    "pid"
                };
                assert!(record[key].is_i64(), "{record}");
                record[key] = json!(std::process::id());
                fs::write(file, record.to_string()).expect("written");
            });
            assert_eq!(b.status(), "stopped");
            b.on(&["kill"], &["TERM"]).refused();
            kill(pid, Signal::SIGKILL).expect("a signal");
            wait_exit(pid);
            b.on(&["delete", "--force"], &[]).ok();
            Ok(())
        },
    );
}
