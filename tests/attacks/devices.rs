//! A01–A05: devices, streams, masks and terminals of an image that leads elsewhere.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::runtime::{Output, finish};
use rsrun_tests::cli::sockets::receive_fd;
use rsrun_tests::containment::scene::{Scene, stopped};
use rsrun_tests::containment::suite::Attacks;
use serde_json::{Value, json};

use crate::exchange::Exchange;
use crate::naive;
use crate::plant::{self, WAYS};

pub(crate) fn families(all: &mut Attacks) {
    a01_default_devices(all.family("a01"));
    a02_streams(all.family("a02"));
    a03_console(all.family("a03"));
    a04_masks(all.family("a04"));
    a05_terminals(all.family("a05"));
}

/// CVE-2026-41579, CVE-2026-47766: nodes and links of /dev made by a path of text.
fn a01_default_devices(all: &mut Attacks) {
    for (how, way) in WAYS {
        all.contained(format!("a_dev_that_is_{how}_when_run"), move |s| {
            let mut b = s.bundle();
            plant::unmounted(&mut b, "/dev");
            plant::link(&b, "/dev", &way(&b, s, ""));
            stopped(b.run());
            Ok(())
        });
        all.contained(
            format!("a_dev_that_is_{how}_when_created_and_started"),
            move |s| {
                let mut b = s.bundle();
                plant::unmounted(&mut b, "/dev");
                plant::link(&b, "/dev", &way(&b, s, ""));
                b.write();
                if stopped(b.call("create", &[])).code == 0 {
                    stopped(b.on(&["start"], &[]));
                }
                Ok(())
            },
        );
    }
    for (what, at, mount) in [
        ("pts", "/dev/pts", "devpts"),
        ("shm", "/dev/shm", "tmpfs"),
        ("mqueue", "/dev/mqueue", "mqueue"),
    ] {
        all.contained(format!("a_mount_on_{what}_that_is_a_link"), move |s| {
            let mut b = s.bundle();
            plant::unmounted(&mut b, "/dev");
            plant::link(&b, at, &s.climb("empty"));
            b.mount(at, mount, mount, &[]);
            stopped(b.run());
            Ok(())
        });
    }
    all.contained("a_ptmx_that_is_a_link", |s| {
        let mut b = s.bundle();
        plant::unmounted(&mut b, "/dev");
        plant::link(&b, "/dev/ptmx", &s.canary("ptmx"));
        stopped(b.run());
        Ok(())
    });
    all.control("a_dev_that_is_a_link", "canary", |s| {
        let b = s.bundle();
        plant::link(&b, "/dev", &s.canary("empty"));
        naive::runtime(&["devices", &b.rootfs("").to_string_lossy()]);
        Ok(())
    });
}

/// CVE-2026-88265: a stream that is /dev/null is opened again inside, or given away.
fn a02_streams(all: &mut Attacks) {
    type Target = (&'static str, fn(&Scene) -> String);
    const TARGETS: [Target; 3] = [
        ("the_canary", |s| s.climb("null")),
        ("core_pattern", |_| "/proc/sys/kernel/core_pattern".into()),
        ("a_file_of_the_image", |_| "/etc/passwd".into()),
    ];
    for (what, target) in TARGETS {
        for stream in ["dev_null", "a_file", "a_pipe"] {
            all.contained(
                format!("a_null_that_is_{what}_with_{stream}_as_stream"),
                move |s| {
                    let mut b = s.bundle();
                    plant::unmounted(&mut b, "/dev");
                    plant::link(&b, "/dev/null", &target(s));
                    b.set("/process/user", json!({"uid": 1000, "gid": 1000}))
                        .shell("echo over >&2; true");
                    with_stream(s, &b, stream);
                    let passwd = fs::metadata(b.rootfs("/etc/passwd")).expect("the image's file");
                    assert_eq!((passwd.uid(), passwd.len() > 20), (0, true));
                    Ok(())
                },
            );
        }
    }
    all.control("a_null_that_is_a_link", "canary", |s| {
        let b = s.bundle();
        plant::link(&b, "/dev/null", &s.canary("null"));
        naive::runtime(&["streams", &b.rootfs("").to_string_lossy()]);
        Ok(())
    });
}

fn with_stream(s: &Scene, b: &Bundle<'_>, stream: &str) -> Output {
    b.write();
    let mut command = b.runtime().command(["run", "--bundle"]);
    command.arg(&b.dir).arg(&b.id);
    match stream {
        "dev_null" => command.stdin(Stdio::null()),
        "a_pipe" => command.stdin(Stdio::piped()),
        _ => {
            let file = b.dir.join("input");
            fs::write(&file, "").expect("a file");
            command.stdin(File::open(file).expect("a file"))
        }
    };
    stopped(finish(command, &s.ground.runtime.root))
}

/// CVE-2026-88264: /dev/console made without O_NOFOLLOW.
fn a03_console(all: &mut Attacks) {
    for (how, way) in WAYS {
        for readonly in [false, true] {
            let kind = if readonly {
                "a_read_only"
            } else {
                "a_writable"
            };
            all.contained(
                format!("a_console_that_is_{how}_in_{kind}_root"),
                move |s| {
                    let mut b = s.bundle();
                    plant::unmounted(&mut b, "/dev");
                    plant::dir(&b, "/dev/pts");
                    plant::link(&b, "/dev/console", &way(&b, s, "new-console"));
                    b.mount("/dev/pts", "devpts", "devpts", &["newinstance"]);
                    b.set("/root/readonly", json!(readonly));
                    with_terminal(&mut b);
                    Ok(())
                },
            );
        }
    }
    all.control("a_console_that_is_a_link", "new-console", |s| {
        let b = s.bundle();
        plant::link(&b, "/dev/console", &s.canary("new-console"));
        naive::runtime(&["console", &b.rootfs("").to_string_lossy()]);
        Ok(())
    });
}

/// Creates and starts with a terminal; gives what `stat` says of the init's stdin, where it came so far.
fn with_terminal(b: &mut Bundle<'_>) -> Option<Value> {
    let socket = b.dir.join("console.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    b.set("/process/terminal", json!(true));
    b.args(&[
        "/bin/sh",
        "-c",
        "/bin/probe stat /proc/self/fd/0 /dev/console > /tmp/seen",
    ]);
    b.write();
    let created = stopped(b.call("create", &["--console-socket", &socket.to_string_lossy()]));
    if created.code != 0 {
        return None;
    }
    let (stream, _) = listener.accept().expect("a connection");
    let (_, master) = receive_fd(&stream).expect("a terminal");
    stopped(b.on(&["start"], &[]));
    b.wait_for("stopped");
    drop(master);
    let seen = fs::read_to_string(b.rootfs("/tmp/seen")).unwrap_or_default();
    serde_json::from_str(&seen).ok()
}

/// CVE-2025-31133, CVE-2025-62161: a mask is the container's own null, which is something else.
fn a04_masks(all: &mut Attacks) {
    type Fake = (&'static str, fn(&Scene, &Bundle<'_>));
    const FAKES: [Fake; 5] = [
        ("a_link_to_core_pattern", |_, b| {
            plant::link(b, "/vol/null", "/proc/sys/kernel/core_pattern");
        }),
        ("a_link_to_the_canary", |s, b| {
            plant::link(b, "/vol/null", &s.climb("secret"));
        }),
        ("a_file", |_, b| {
            plant::file(b, "/vol/null", "not null\n");
        }),
        ("a_directory", |_, b| {
            plant::dir(b, "/vol/null");
        }),
        ("missing", |_, _| {}),
    ];
    for (what, fake) in FAKES {
        all.contained(format!("masks_beside_a_null_that_is_{what}"), move |s| {
            let mut b = s.bundle();
            on_volume(&mut b);
            fake(s, &b);
            masked_as_asked(&mut b);
            Ok(())
        });
    }
    all.contained("masks_while_null_is_exchanged", |s| {
        let mut b = s.bundle();
        on_volume(&mut b);
        let null = plant::file(&b, "/vol/null", "");
        let other = plant::link(&b, "/vol/other", "/proc/sys/kernel/core_pattern");
        let exchange = Exchange::of(&null, &other);
        for _ in 0..6 {
            masked_as_asked(&mut b);
        }
        assert!(exchange.end() > 100);
        Ok(())
    });
    all.control(
        "a_mask_from_the_container_s_null",
        "kernel/core_pattern",
        |s| {
            let b = s.bundle();
            plant::file(&b, "/etc/masked", "to be masked");
            plant::link(&b, "/dev/null", "/proc/sys/kernel/core_pattern");
            naive::runtime(&["mask", &b.rootfs("").to_string_lossy(), "/etc/masked"]);
            Ok(())
        },
    );
}

const MASKED: [&str; 6] = [
    "/proc/keys",
    "/proc/timer_list",
    "/proc/version",
    "/etc/passwd",
    "/etc/group",
    "/proc/acpi",
];

/// Its /dev is a directory that others write too.
fn on_volume(b: &mut Bundle<'_>) {
    plant::unmounted(b, "/dev");
    let volume = plant::dir(b, "/vol");
    b.mount("/dev", "bind", &volume.to_string_lossy(), &["rbind"]);
    b.set("/linux/maskedPaths", json!(MASKED));
    plant::capable(b, "CAP_DAC_OVERRIDE");
}

/// Either nothing runs, or each masked path is the real null or an empty directory.
fn masked_as_asked(b: &mut Bundle<'_>) {
    let args: Vec<&str> = ["/bin/probe", "stat"].into_iter().chain(MASKED).collect();
    let out = stopped(b.args(&args).run());
    if out.code != 0 {
        return;
    }
    let seen: Value = serde_json::from_str(&out.stdout).expect("what the probe saw");
    for (path, one) in MASKED.iter().zip(seen.as_array().expect("a list")) {
        let hidden = one["device"] == "1:3" || one["type"] == "dir" || *one == -2;
        assert!(hidden, "{path} is {one}");
    }
}

/// CVE-2025-52565: the terminal is looked up in the container.
fn a05_terminals(all: &mut Attacks) {
    type Fake = (&'static str, fn(&Scene, &mut Bundle<'_>));
    const FAKES: [Fake; 5] = [
        ("a_link_to_the_canary_as_ptmx", |s, b| {
            plant::link(b, "/dev/ptmx", &s.climb("ptmx"));
            b.mount(
                "/dev/pts",
                "devpts",
                "devpts",
                &["newinstance", "ptmxmode=0666"],
            );
        }),
        ("a_file_as_ptmx_and_no_devpts", |_, b| {
            plant::file(b, "/dev/pts/ptmx", "");
        }),
        ("a_tmpfs_as_devpts", |_, b| {
            b.mount("/dev/pts", "tmpfs", "tmpfs", &[]);
        }),
        ("a_link_as_pts", |s, b| {
            plant::link(b, "/dev/pts", &s.climb("empty"));
        }),
        ("the_host_s_devpts_bound", |_, b| {
            plant::dir(b, "/dev/pts");
            b.mount("/dev/pts", "bind", "/dev/pts", &["rbind"]);
        }),
    ];
    for (what, fake) in FAKES {
        all.contained(format!("a_terminal_beside_{what}"), move |s| {
            let mut b = s.bundle();
            plant::unmounted(&mut b, "/dev");
            fake(s, &mut b);
            if let Some(seen) = with_terminal(&mut b) {
                // Of a devpts: major 136.
                assert!(
                    seen[1] == -2
                        || seen[1]["device"]
                            .as_str()
                            .is_some_and(|d| d.starts_with("136:")),
                    "{seen}"
                );
            }
            Ok(())
        });
    }
    all.contained("a_terminal_while_pts_is_exchanged", |s| {
        let mut b = s.bundle();
        plant::unmounted(&mut b, "/dev");
        let volume = plant::dir(&b, "/vol");
        plant::dir(&b, "/vol/pts");
        let other = plant::link(&b, "/vol/other", &s.climb("empty"));
        b.mount("/dev", "bind", &volume.to_string_lossy(), &["rbind"]);
        b.mount("/dev/pts", "devpts", "devpts", &["newinstance"]);
        let exchange = Exchange::of(&volume.join("pts"), &other);
        for _ in 0..4 {
            with_terminal(&mut b);
            b.on(&["delete", "--force"], &[]);
            let _ = fs::remove_file(b.dir.join("console.sock"));
        }
        assert!(exchange.end() > 100);
        Ok(())
    });
}
