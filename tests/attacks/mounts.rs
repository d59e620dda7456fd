//! A06–A10, A12: mounts, and what is made for them, while the destination leads elsewhere or moves.

use std::fs;
use std::path::PathBuf;

use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::facts::Facts;
use rsrun_tests::containment::scene::{Scene, stopped};
use rsrun_tests::containment::suite::Attacks;
use serde_json::{Value, json};

use crate::exchange::Exchange;
use crate::naive;
use crate::plant::{self, WAYS};

pub(crate) fn families(all: &mut Attacks) {
    a06_settings_and_labels(all.family("a06"));
    a07_destinations(all.family("a07"));
    a08_missing_destinations(all.family("a08"));
    a09_procfs_covered(all.family("a09"));
    a10_procfs_elsewhere(all.family("a10"));
    a12_covers(all.family("a12"));
}

/// How often a start is tried while names move; one swap at every single call is the business of attack_races.
const ROUNDS: usize = 4;

/// CVE-2025-52881: a mount is diverted so that later writes to /proc land on another of its files.
fn a06_settings_and_labels(all: &mut Attacks) {
    type Fake = (&'static str, fn(&mut Bundle<'_>) -> Option<Exchange>);
    const FAKES: [Fake; 5] = [
        ("the_parent_of_a_mount_moves_to_proc", |b| {
            Some(moving(b, "/vol/a", "/proc/self"))
        }),
        ("the_parent_of_a_mount_moves_to_sys", |b| {
            Some(moving(b, "/vol/a", "/proc/sys/kernel"))
        }),
        ("a_mount_leads_to_attr", |b| {
            plant::link(b, "/way", "/proc/self/attr");
            b.mount("/way/exec", "tmpfs", "tmpfs", &[]);
            None
        }),
        ("a_mount_leads_to_the_setting", |b| {
            plant::link(b, "/way", "/proc/sys/kernel");
            b.mount("/way/shm_rmid_forced", "bind", "/dev/null", &["bind"]);
            None
        }),
        ("a_mount_leads_to_sysrq", |b| {
            plant::link(b, "/way", "/proc/sysrq-trigger");
            b.mount("/way", "bind", "/dev/null", &["bind"]);
            None
        }),
    ];
    for (what, fake) in FAKES {
        all.contained(
            format!("settings_are_written_to_the_container_while_{what}"),
            move |s| {
                let mut b = s.bundle();
                b.set(
                    "/linux/sysctl",
                    json!({"kernel.shm_rmid_forced": "1", "kernel.msgmax": "7777"}),
                );
                let exchange = fake(&mut b);
                b.args(&[
                    "/bin/probe",
                    "read",
                    "/proc/sys/kernel/shm_rmid_forced",
                    "/proc/sys/kernel/msgmax",
                ]);
                for _ in 0..exchange.as_ref().map_or(1, |_| ROUNDS) {
                    let out = stopped(b.run());
                    if out.code == 0 {
                        let seen: Value = serde_json::from_str(&out.stdout).expect("what it saw");
                        assert_eq!(seen, json!(["1\n", "7777\n"]));
                    }
                }
                Ok(())
            },
        );
    }
    all.control(
        "a_setting_written_through_the_container_s_procfs",
        "core_pattern",
        |s| {
            let b = s.bundle();
            plant::link(&b, "/proc/way", "/proc/sys/kernel/core_pattern");
            naive::runtime(&["write", &b.rootfs("/proc/way").to_string_lossy(), "changed"]);
            Ok(())
        },
    );
}

/// A volume at /vol of which the directory `name` changes places with a link; a tmpfs goes on `name`/x.
fn moving(b: &mut Bundle<'_>, name: &str, to: &str) -> Exchange {
    let (there, other) = (plant::dir(b, name), plant::link(b, "/vol/other", to));
    plant::dir(b, &format!("{name}/x"));
    b.mount(&format!("{name}/x"), "tmpfs", "tmpfs", &[]);
    Exchange::of(&there, &other)
}

/// CVE-2021-30465: the destination is checked, then used.
fn a07_destinations(all: &mut Attacks) {
    type Kind = (&'static str, &'static str, fn(&Bundle<'_>) -> String);
    const KINDS: [Kind; 2] = [
        ("tmpfs", "tmpfs", |_| "tmpfs".into()),
        ("bind", "bind", |b| {
            plant::dir(b, "/given").display().to_string()
        }),
    ];
    for (kind, word, source) in KINDS {
        for (how, way) in WAYS {
            all.contained(format!("a_{kind}_below_{how}"), move |s| {
                let mut b = s.bundle();
                plant::link(&b, "/vol/a", &way(&b, s, "dir"));
                let source = source(&b);
                b.mount("/vol/a/inner", word, &source, &["rw"]);
                seen_inside(&mut b);
                Ok(())
            });
        }
        all.contained(format!("a_{kind}_below_a_directory_that_moves"), move |s| {
            let mut b = s.bundle();
            let there = plant::dir(&b, "/vol/a");
            plant::dir(&b, "/vol/a/inner");
            let other = plant::link(&b, "/vol/other", &s.climb("dir"));
            let source = source(&b);
            b.mount("/vol/a/inner", word, &source, &["rw"]);
            let exchange = Exchange::of(&there, &other);
            for _ in 0..ROUNDS {
                seen_inside(&mut b);
            }
            assert!(exchange.end() > 100);
            Ok(())
        });
    }
    all.contained(
        "a_bind_of_a_volume_that_is_exchanged_with_a_link_to_the_root",
        |s| {
            let mut b = s.bundle();
            let (there, other) = (
                plant::dir(&b, "/vol/a/etc"),
                plant::link(&b, "/vol/other", "/"),
            );
            b.mount("/vol/a/etc", "tmpfs", "tmpfs", &[]);
            let exchange = Exchange::of(there.parent().expect("a parent"), &other);
            for _ in 0..ROUNDS {
                seen_inside(&mut b);
            }
            drop(exchange);
            Ok(())
        },
    );
    all.control("a_mount_by_a_path_of_text", "/srv/canary/dir/inner", |s| {
        let b = s.bundle();
        plant::link(&b, "/vol/a", &s.climb("dir"));
        naive::runtime(&["mount", &b.rootfs("/vol/a/inner").to_string_lossy()]);
        Ok(())
    });
}

/// Runs and looks whether anything of the host is in sight.
fn seen_inside(b: &mut Bundle<'_>) {
    let out = stopped(b.args(&["/bin/probe", "facts"]).run());
    if out.code == 0 {
        let facts = Facts::parse(&out.stdout);
        assert!(!facts.list("/root").contains("srv") || !out.stdout.contains("sentinel"));
        assert!(
            !facts.list("/root").contains("boot"),
            "the host's root is in sight"
        );
    }
}

/// CVE-2024-45310: a missing mount point is made where a link leads.
fn a08_missing_destinations(all: &mut Attacks) {
    for (how, way) in WAYS {
        for (kind, source) in [("directory", "/tmp"), ("file", "/etc/passwd")] {
            all.contained(format!("a_missing_{kind}_below_{how}"), move |s| {
                let mut b = s.bundle();
                plant::link(&b, "/vol/a", &way(&b, s, "empty"));
                b.mount("/vol/a/new/one", "bind", source, &["bind", "ro"]);
                stopped(b.run());
                Ok(())
            });
        }
    }
    all.contained("a_missing_directory_below_one_that_moves", |s| {
        let mut b = s.bundle();
        let there = plant::dir(&b, "/vol/a");
        let other = plant::link(&b, "/vol/other", &s.climb("empty"));
        b.mount("/vol/a/b/c/d/e/f", "tmpfs", "tmpfs", &[]);
        let exchange = Exchange::of(&there, &other);
        for _ in 0..ROUNDS {
            stopped(b.run());
            let _ = fs::remove_dir_all(there.join("b"));
        }
        assert!(exchange.end() > 100);
        Ok(())
    });
    all.control("a_directory_made_by_a_path_of_text", "empty/new", |s| {
        let b = s.bundle();
        plant::link(&b, "/vol/a", &s.climb("empty"));
        naive::runtime(&["mkdir", &b.rootfs("/vol/a/new").to_string_lossy()]);
        Ok(())
    });
}

/// CVE-2019-16884: what is written to a covered /proc goes to files of the image.
fn a09_procfs_covered(all: &mut Attacks) {
    let places = [
        ("proc", "/proc"),
        ("proc_self", "/proc/self"),
        ("proc_self_attr", "/proc/self/attr"),
        ("proc_sys", "/proc/sys"),
        ("proc_with_two_slashes", "//proc//"),
        ("proc_by_a_detour", "/etc/../proc/sys"),
        ("proc_by_a_link", "/alias/sys"),
    ];
    for (what, place) in places {
        for kind in ["bind", "tmpfs"] {
            all.contained(format!("a_{kind}_on_{what}"), move |s| {
                let mut b = s.bundle();
                plant::link(&b, "/alias", "/proc");
                let fake = plant::dir(&b, "/fake");
                let source = if kind == "bind" {
                    fake.to_string_lossy().into_owned()
                } else {
                    kind.into()
                };
                b.mount(place, kind, &source, &["rw"]);
                b.refused();
                Ok(())
            });
        }
    }
    all.contained("a_file_on_a_setting", |s| {
        let mut b = s.bundle();
        b.mount(
            "/proc/sys/kernel/core_pattern",
            "bind",
            "/dev/null",
            &["bind"],
        );
        b.refused();
        Ok(())
    });
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867: /proc or /sys of the image is a link.
fn a10_procfs_elsewhere(all: &mut Attacks) {
    type Fake = (
        &'static str,
        &'static str,
        fn(&Scene, &Bundle<'_>) -> String,
    );
    const FAKES: [Fake; 7] = [
        ("proc_is_a_link_to_a_directory", "/proc", |_, b| {
            plant::dir(b, "/bad");
            "/bad".into()
        }),
        ("proc_is_a_link_to_self", "/proc", |_, _| "self".into()),
        ("proc_is_a_link_to_the_canary", "/proc", |s, _| {
            s.canary("empty")
        }),
        ("proc_is_a_climbing_link", "/proc", |s, _| s.climb("empty")),
        ("sys_is_a_link_to_tmp", "/sys", |_, _| "/tmp".into()),
        ("sys_is_a_link_to_proc", "/sys", |_, _| "proc".into()),
        ("sys_is_a_link_to_the_canary", "/sys", |s, _| {
            s.canary("empty")
        }),
    ];
    for (what, place, to) in FAKES {
        all.contained(what, move |s| {
            let b = s.bundle();
            let to = to(s, &b);
            plant::link(&b, place, &to);
            let said = b.refused();
            assert!(said.contains(place), "{said}");
            Ok(())
        });
    }
    for place in ["/proc", "/sys"] {
        all.contained(format!("{}_is_a_file", &place[1..]), move |s| {
            let b = s.bundle();
            plant::file(&b, place, "");
            assert!(b.refused().contains(place));
            Ok(())
        });
    }
    all.contained("a_tmpfs_comes_before_what_proc_leads_to", |s| {
        let mut b = s.bundle();
        plant::link(&b, "/proc", "/tmp/proc");
        b.set(
            "/mounts/0",
            json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}),
        );
        b.mount("/proc", "proc", "proc", &[]);
        b.refused();
        Ok(())
    });
}

/// GHSA-3q8j-pf29-vwv8: the target of a read-only or masked path is looked up at each step.
fn a12_covers(all: &mut Attacks) {
    for list in ["readonlyPaths", "maskedPaths"] {
        all.contained(format!("{list}_below_a_directory_that_moves"), move |s| {
            let mut b = s.bundle();
            let (there, other) = (plant::dir(&b, "/vol/a"), plant::dir(&b, "/vol/b"));
            for dir in [&there, &other] {
                fs::create_dir(dir.join("x")).expect("a directory");
                fs::write(dir.join("x/secret"), "s").expect("a file");
            }
            b.set(&format!("/linux/{list}"), json!(["/vol/a/x", "/vol/b/x"]));
            let exchange = Exchange::of(&there, &other);
            for _ in 0..ROUNDS {
                b.shell("for d in /vol/a/x /vol/b/x; do touch $d/new && echo written; done 2>&1");
                let out = stopped(b.run());
                // With two names that change places one may be covered twice and the other not at all: this is
                // what the mover has done to itself. What counts is that the host's has no mount.
                assert!(!out.stdout.contains("No such"), "{}", out.stdout);
            }
            drop(exchange);
            Ok(())
        });
        for (how, way) in WAYS {
            all.contained(format!("{list}_that_are_{how}"), move |s| {
                let mut b = s.bundle();
                plant::link(&b, "/vol/a", &way(&b, s, "dir"));
                b.set(&format!("/linux/{list}"), json!(["/vol/a", "/vol/a/inner"]));
                stopped(b.run());
                Ok(())
            });
        }
    }
    all.contained("every_read_only_path_takes_no_write", |s| {
        let mut b = s.bundle();
        let paths: Vec<String> = (0..20).map(|n| format!("/ro/{n}")).collect();
        for path in &paths {
            plant::dir(&b, path);
        }
        b.set("/linux/readonlyPaths", json!(paths));
        let opened: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        b.shell("for d in /ro/*; do touch $d/x 2>/dev/null && echo $d; done; true");
        assert_eq!(b.printed(), "", "{} paths", opened.len());
        Ok(())
    });
    all.contained("settings_are_read_only_as_asked", |s| {
        let mut b = s.bundle();
        plant::capable(&mut b, "CAP_DAC_OVERRIDE");
        b.set(
            "/linux/readonlyPaths",
            json!(["/proc/sys", "/proc/sysrq-trigger", "/proc/irq"]),
        );
        let seen = b.probe(&[
            "open",
            "w:/proc/sys/kernel/core_pattern",
            "w:/proc/sysrq-trigger",
        ]);
        assert_eq!(seen, Value::from(vec![-30, -30]));
        Ok(())
    });
}
