//! Does every option word do to a mount what the specification says?
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rsrun_tests::cli::facts::Facts;
use rsrun_tests::cli::ground::Ground;
use rsrun_tests::cli::suite::{Outcome, Suite};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

/// Option words with what they set and clear on a mount, as mountinfo shows it.
const WORDS: [(&str, &[&str], &[&str]); 22] = [
    ("ro", &["ro"], &["rw"]),
    ("rw", &["rw"], &["ro"]),
    ("nosuid", &["nosuid"], &[]),
    ("suid", &[], &["nosuid"]),
    ("nodev", &["nodev"], &[]),
    ("dev", &[], &["nodev"]),
    ("noexec", &["noexec"], &[]),
    ("exec", &[], &["noexec"]),
    ("noatime", &["noatime"], &["relatime"]),
    ("atime", &["relatime"], &["noatime"]),
    ("relatime", &["relatime"], &["noatime"]),
    ("norelatime", &["relatime"], &[]),
    ("strictatime", &[], &["relatime", "noatime"]),
    ("nostrictatime", &["relatime"], &[]),
    ("nodiratime", &["nodiratime"], &[]),
    ("diratime", &[], &["nodiratime"]),
    ("nosymfollow", &["nosymfollow"], &[]),
    ("symfollow", &[], &["nosymfollow"]),
    ("sync", &[], &[]),
    ("async", &[], &[]),
    ("defaults", &["rw"], &["nosuid", "nodev", "noexec"]),
    ("silent", &[], &[]),
];

/// Recursive words: what is set and cleared on the mount and on all below it.
const RECURSIVE: [(&str, &[&str], &[&str]); 14] = [
    ("rro", &["ro"], &[]),
    ("rrw", &["rw"], &["ro"]),
    ("rnosuid", &["nosuid"], &[]),
    ("rsuid", &[], &["nosuid"]),
    ("rnodev", &["nodev"], &[]),
    ("rdev", &[], &["nodev"]),
    ("rnoexec", &["noexec"], &[]),
    ("rexec", &[], &["noexec"]),
    ("rnoatime", &["noatime"], &[]),
    ("rrelatime", &["relatime"], &["noatime"]),
    ("rstrictatime", &[], &["relatime", "noatime"]),
    ("rnodiratime", &["nodiratime"], &[]),
    ("rdiratime", &[], &["nodiratime"]),
    ("rnosymfollow", &["nosymfollow"], &[]),
];

pub(crate) fn cases(suite: &mut Suite) {
    for (word, set, cleared) in WORDS {
        suite.case(format!("option_{word}_on_a_tmpfs"), move |g| {
            known(g, word)?;
            let mut b = g.bundle();
            b.mount("/m", "tmpfs", "m", &[word]);
            holds(&b.facts(), "/m", set, cleared);
            Ok(())
        });
        suite.case(format!("option_{word}_on_a_bind"), move |g| {
            known(g, word)?;
            let mut b = g.bundle();
            fs::create_dir(b.dir.join("v")).expect("a directory");
            let source = b.dir.join("v");
            b.mount("/m", "bind", &source.to_string_lossy(), &["bind", word]);
            holds(&b.facts(), "/m", set, cleared);
            Ok(())
        });
    }
    for (word, set, cleared) in RECURSIVE {
        suite.case(
            format!("recursive_option_{word}_reaches_the_mounts_below"),
            move |g| {
                g.since_runc(1, 2, "all recursive attributes")?;
                let facts = with_tree(g, &["rbind", word]);
                holds(&facts, "/m", set, cleared);
                holds(&facts, "/m/sub", set, cleared);
                Ok(())
            },
        );
    }
    plain_and_recursive(suite);
    propagation(suite);
    idmapped(suite);
}

fn known(g: &Ground, word: &str) -> Outcome {
    match word {
        "defaults" => g.differs_from_runc(
            "the specification's word `defaults` is known; runc hands it to the file system",
        ),
        _ => Ok(()),
    }
}

fn holds(facts: &Facts, point: &str, set: &[&str], cleared: &[&str]) {
    let found = facts.mount(point);
    for word in set {
        assert!(
            found.has(word),
            "{word} is missing at {point}: {:?}",
            found.options
        );
    }
    for word in cleared {
        assert!(
            !found.has(word),
            "{word} is set at {point}: {:?}",
            found.options
        );
    }
}

/// Binds a tree with a mount below it and gives what the container sees.
fn with_tree(g: &Ground, options: &[&str]) -> Facts {
    with_source(g, options, &|_| {})
}

fn with_source(g: &Ground, options: &[&str], prepare: &dyn Fn(&Path)) -> Facts {
    let source = g.work.join("tree");
    fs::create_dir_all(&source).expect("a directory");
    mount(
        Some("tree"),
        &source,
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .expect("a tmpfs");
    fs::create_dir(source.join("sub")).expect("a directory");
    mount(
        Some("sub"),
        &source.join("sub"),
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .expect("a tmpfs");
    prepare(&source);
    let mut b = g.bundle();
    b.mount("/m", "bind", &source.to_string_lossy(), options);
    let facts = catch_unwind(AssertUnwindSafe(|| b.facts()));
    umount2(&source, MntFlags::MNT_DETACH).expect("an umount");
    fs::remove_dir(&source).expect("removed");
    facts.unwrap_or_else(|thrown| resume_unwind(thrown))
}

fn plain_and_recursive(suite: &mut Suite) {
    suite.case("a_plain_ro_leaves_the_mounts_below_writable", |g| {
        let facts = with_tree(g, &["rbind", "ro"]);
        holds(&facts, "/m", &["ro"], &[]);
        holds(&facts, "/m/sub", &["rw"], &[]);
        Ok(())
    });
    suite.case(
        "a_bind_keeps_the_flags_of_its_source_that_no_word_changes",
        |g| {
            g.differs_from_runc(
                "words change what they name; runc's remount clears the source's other flags",
            )?;
            let facts = with_source(g, &["rbind", "ro"], &|source| {
                let flags = MsFlags::MS_BIND
                    | MsFlags::MS_REMOUNT
                    | MsFlags::MS_NOSUID
                    | MsFlags::MS_NODEV
                    | MsFlags::MS_NOEXEC;
                mount(None::<&str>, source, None::<&str>, flags, None::<&str>).expect("a remount");
            });
            holds(&facts, "/m", &["ro", "nosuid", "nodev", "noexec"], &[]);
            Ok(())
        },
    );
    suite.case("the_last_of_two_opposite_words_holds", |g| {
        let mut b = g.bundle();
        b.mount(
            "/m",
            "tmpfs",
            "m",
            &["ro", "nosuid", "suid", "rw", "noexec"],
        );
        holds(&b.facts(), "/m", &["rw", "noexec"], &["ro", "nosuid"]);
        Ok(())
    });
    suite.case("sync_is_an_option_of_the_file_system", |g| {
        let mut b = g.bundle();
        b.mount("/m", "tmpfs", "m", &["sync"]);
        assert!(b.facts().mount("/m").fs_has("sync"));
        Ok(())
    });
    suite.case("noexec_keeps_a_program_from_being_executed", |g| {
        let mut b = g.bundle();
        b.mount("/m", "tmpfs", "m", &["noexec"])
            .shell("cp /bin/busybox /m/true && /m/true 2>&1; echo $?");
        assert!(b.printed().ends_with("126"));
        Ok(())
    });
    suite.case("nodev_keeps_a_device_from_being_opened", |g| {
        let mut b = g.bundle();
        let all = serde_json::json!(["CAP_MKNOD"]);
        b.set(
            "/process/capabilities",
            serde_json::json!({"bounding": all, "effective": all, "permitted": all}),
        );
        b.mount("/m", "tmpfs", "m", &["nodev"])
            .mount("/n", "tmpfs", "n", &["dev"]);
        b.shell("mknod /m/null c 1 3; mknod /n/null c 1 3; probe open r:/m/null r:/n/null");
        assert_eq!(b.printed(), "[-13,0]");
        Ok(())
    });
}

fn propagation(suite: &mut Suite) {
    // What a shared source becomes in the container.
    let words: [(&str, Option<&str>, Option<&str>); 8] = [
        ("private", None, Some("shared")),
        ("rprivate", None, None),
        ("slave", Some("master"), Some("shared")),
        ("rslave", Some("master"), Some("master")),
        ("shared", Some("shared"), Some("shared")),
        ("rshared", Some("shared"), Some("shared")),
        ("unbindable", Some("unbindable"), Some("shared")),
        ("runbindable", Some("unbindable"), Some("unbindable")),
    ];
    for (word, top, below) in words {
        suite.case(
            format!("propagation_{word}_of_a_bind_with_a_mount_below"),
            move |g| {
                let facts = with_source(g, &["rbind", word], &|source| {
                    for place in [source.to_path_buf(), source.join("sub")] {
                        mount(
                            None::<&str>,
                            &place,
                            None::<&str>,
                            MsFlags::MS_SHARED,
                            None::<&str>,
                        )
                        .expect("a shared mount");
                    }
                });
                let found = |point: &str| facts.mount(point).propagation.join(" ");
                for (point, wanted) in [("/m", top), ("/m/sub", below)] {
                    // A container is born as a slave of the host: what is not named stays at least that.
                    let text = found(point);
                    match wanted {
                        None => assert_eq!(text, "", "{point}"),
                        Some("shared") if point == "/m/sub" && word != "rshared" => {
                            assert!(!text.contains("unbindable"), "{point}: {text}");
                        }
                        Some(kind) => {
                            assert!(text.contains(kind), "{point}: {text:?} is not {kind}")
                        }
                    }
                }
                Ok(())
            },
        );
    }
    suite.case(
        "a_mount_on_the_host_reaches_a_slave_bind_of_a_running_container",
        |g| {
            let (seen, _) = mount_while_running(g, "rslave", Side::Host);
            assert!(seen);
            Ok(())
        },
    );
    suite.case("a_mount_on_the_host_does_not_reach_a_private_bind", |g| {
        let (seen, _) = mount_while_running(g, "rprivate", Side::Host);
        assert!(!seen);
        Ok(())
    });
    suite.case(
        "a_mount_in_the_container_reaches_the_host_through_a_shared_bind_alone",
        |g| {
            for (word, reaches) in [("rshared", true), ("rslave", false), ("rprivate", false)] {
                let (_, seen) = mount_while_running(g, word, Side::Container);
                assert_eq!(seen, reaches, "{word}");
            }
            Ok(())
        },
    );
}

enum Side {
    Host,
    Container,
}

/// Mounts on one side of a shared volume while the container runs; who sees it: the container, the host.
fn mount_while_running(g: &Ground, word: &str, side: Side) -> (bool, bool) {
    let source = g.work.join("tree");
    fs::create_dir_all(&source).expect("a directory");
    mount(
        Some("tree"),
        &source,
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .expect("a tmpfs");
    mount(
        None::<&str>,
        &source,
        None::<&str>,
        MsFlags::MS_SHARED,
        None::<&str>,
    )
    .expect("a shared mount");
    fs::create_dir(source.join("late")).expect("a directory");
    let seen = catch_unwind(AssertUnwindSafe(|| {
        let mut b = g.bundle();
        let admin = serde_json::json!(["CAP_SYS_ADMIN"]);
        b.set(
            "/process/capabilities",
            serde_json::json!({"bounding": admin, "effective": admin, "permitted": admin}),
        );
        if word == "rshared" {
            // A root that is a slave would cut the way back, as Kubernetes knows for its bidirectional mounts.
            b.set("/linux/rootfsPropagation", "rshared".into());
        }
        b.mount("/m", "bind", &source.to_string_lossy(), &["rbind", word])
            .hold();
        match side {
            Side::Host => {
                mount(
                    Some("late"),
                    &source.join("late"),
                    Some("tmpfs"),
                    MsFlags::empty(),
                    None::<&str>,
                )
                .expect("a mount");
            }
            Side::Container => {
                b.on(&["exec"], &["/bin/mount", "-t", "tmpfs", "late", "/m/late"])
                    .ok();
            }
        }
        let host = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let host = host.lines().any(|l| l.contains("/tree/late "));
        (b.exec_facts(&[]).is_mounted("/m/late"), host)
    }));
    umount2(&source, MntFlags::MNT_DETACH).expect("an umount");
    fs::remove_dir(&source).expect("removed");
    seen.unwrap_or_else(|thrown| resume_unwind(thrown))
}

fn idmapped(suite: &mut Suite) {
    for (name, option, recursive) in [
        ("an_idmap_mount", "idmap", false),
        ("a_ridmap_mount", "ridmap", true),
    ] {
        suite.case(format!("{name}_shows_the_files_of_its_own_mapping"), move |g| {
            g.since_runc(1, 2, "mounts with their own mapping")?;
            g.since_kernel(6, 3, "a mapping of a tmpfs")?;
            let source = g.work.join("tree");
            fs::create_dir_all(&source).expect("a directory");
            mount(Some("tree"), &source, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a tmpfs");
            fs::create_dir(source.join("sub")).expect("a directory");
            mount(Some("sub"), &source.join("sub"), Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a tmpfs");
            for file in ["file", "sub/file"] {
                fs::write(source.join(file), "").expect("a file");
                std::os::unix::fs::chown(source.join(file), Some(5), Some(6)).expect("an owner");
            }
            let out = catch_unwind(AssertUnwindSafe(|| {
                let mut b = g.bundle();
                let map = |host: u32| serde_json::json!([{"containerID": 0, "hostID": host, "size": 1000}]);
                b.set("/mounts/-", serde_json::json!({
                    "destination": "/m", "type": "bind", "source": source, "options": ["rbind", option],
                    "uidMappings": map(2000), "gidMappings": map(3000)
                }));
                b.args(&["/bin/stat", "-c", "%u %g", "/m/file", "/m/sub/file"]);
                b.run()
            }));
            umount2(&source, MntFlags::MNT_DETACH).expect("an umount");
            fs::remove_dir(&source).expect("removed");
            let text = out.unwrap_or_else(|thrown| resume_unwind(thrown)).ok().stdout;
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines[0], "2005 3006");
            assert_eq!(lines[1], if recursive { "2005 3006" } else { "5 6" });
            Ok(())
        });
    }
    suite.case(
        "an_idmap_mount_without_a_mapping_takes_the_container_s",
        |g| {
            g.since_runc(1, 2, "mounts with their own mapping")?;
            g.since_kernel(6, 3, "a mapping of a tmpfs")?;
            let mut b = g.bundle();
            fs::create_dir(b.dir.join("v")).expect("a directory");
            fs::write(b.dir.join("v/file"), "").expect("a file");
            let source = b.dir.join("v");
            b.user_namespace(&[(0, 100_000, 65_536)]).mount(
                "/m",
                "bind",
                &source.to_string_lossy(),
                &["bind", "idmap"],
            );
            b.shell("stat -c '%u %g' /m/file; touch /m/made");
            assert_eq!(b.printed(), "0 0");
            use std::os::unix::fs::MetadataExt;
            assert_eq!(
                fs::metadata(source.join("made")).expect("a file").uid(),
                0,
                "the owner on the host"
            );
            Ok(())
        },
    );
    suite.case("a_file_system_that_cannot_be_mapped_is_refused", |g| {
        g.since_runc(1, 2, "mounts with their own mapping")?;
        let mut b = g.bundle();
        let map = serde_json::json!([{"containerID": 0, "hostID": 2000, "size": 1000}]);
        b.set("/mounts/-", serde_json::json!({
            "destination": "/m", "type": "bind", "source": "/proc/sys", "options": ["bind", "idmap"], "uidMappings": map, "gidMappings": map
        }));
        b.refused();
        Ok(())
    });
}
