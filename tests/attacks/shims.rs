//! A20, A21, C01 and what of others is the shim's: spoken to over ttrpc, as containerd does.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_shim_protos::api;
use nix::unistd::Pid;
use rsrun_tests::by_hand::{ByHand, Manner};
use rsrun_tests::command::eventually;
use rsrun_tests::containerd::{SOCKETS, socket_name};
use rsrun_tests::containment::created;
use rsrun_tests::containment::scene::Scene;
use rsrun_tests::containment::suite::Attacks;
use rsrun_tests::places::Places;
use rsrun_tests::proc;
use rsrun_tests::suite::{Check, Stop, World};
use rsrun_tests::task::{INIT, Streams, Task};

pub(crate) fn families(all: &mut Attacks) {
    a16_ids(all.family("a16"));
    a20_checkpoints(all.family("a20"));
    a21_root_mounts(all.family("a21"));
    b03_descriptors(all.family("b03"));
    c01_sockets(all.family("c01"));
}

fn a16_ids(all: &mut Attacks) {
    all.contained("ids_of_the_shim_that_climb", |_| {
        by_hand("ids", |hand| {
            let task = hand.running("good", &["/bin/sleep", "1000"])?;
            for bad in ["..", "../../srv/canary/dir", "a/b", "", "a\0b", "ä"] {
                let other = Task {
                    id: bad.into(),
                    ..task.clone()
                };
                assert!(
                    other.create(&hand.rootfs(), &Streams::default()).is_err(),
                    "{bad:?}"
                );
                assert!(
                    bad.is_empty() || task.exec(bad, &["true"], &Streams::default()).is_err(),
                    "{bad:?}"
                );
            }
            let elsewhere = Task {
                id: "other".into(),
                bundle: "/srv/canary/dir".into(),
                ..task.clone()
            };
            assert!(
                elsewhere
                    .create(&hand.rootfs(), &Streams::default())
                    .is_err()
            );
            Ok(())
        });
        Ok(())
    });
}

/// CVE-2026-53489 and others: what is in an archive is trusted again.
fn a20_checkpoints(all: &mut Attacks) {
    all.contained("a_container_from_a_checkpoint_is_refused", |s: &Scene| {
        let place = s.canary("dir");
        by_hand("from-checkpoint", |hand| {
            let task = fresh(hand, "restored")?;
            let mut request = task.create_request(&hand.rootfs(), &Streams::default());
            request.checkpoint = place.clone();
            assert!(
                task.call::<api::CreateTaskResponse>("Create", &request)
                    .is_err()
            );
            Ok(())
        });
        Ok(())
    });
    all.contained(
        "a_checkpoint_is_refused_and_nothing_written",
        |s: &Scene| {
            let place = s.canary("dir");
            by_hand("to-checkpoint", |hand| {
                let task = hand.running("kept", &["/bin/sleep", "1000"])?;
                assert!(task.checkpoint(&place).is_err());
                Ok(())
            });
            Ok(())
        },
    );
    for verb in ["checkpoint", "restore"] {
        all.contained(format!("{verb}_is_no_command"), move |s| {
            let b = s.bundle();
            b.write();
            b.on(&[verb], &[]).refused();
            Ok(())
        });
    }
}

/// CVE-2026-24054: a list of mounts that is empty or odd.
fn a21_root_mounts(all: &mut Attacks) {
    type Odd = (&'static str, fn(&ByHand) -> Vec<api::Mount>);
    const ODD: [Odd; 7] = [
        ("nothing", |_| Vec::new()),
        ("an_empty_directory", |h| {
            let _ = fs::create_dir_all(h.directory().join("nothing"));
            vec![mount(
                "bind",
                &h.directory().join("nothing").to_string_lossy(),
                &["rbind", "ro"],
            )]
        }),
        ("a_device", |_| vec![mount("bind", "/dev/vda", &["bind"])]),
        ("a_device_as_ext4", |_| {
            vec![mount("ext4", "/dev/null", &["ro"])]
        }),
        ("no_type", |_| vec![mount("none", "none", &[])]),
        ("a_file", |_| {
            vec![mount("bind", "/srv/canary/secret", &["bind", "ro"])]
        }),
        ("200_layers_that_are_not_there", |_| {
            let layers: Vec<String> = (0..200).map(|n| format!("/no/such/layer/{n}")).collect();
            vec![mount(
                "overlay",
                "overlay",
                &[&format!("lowerdir={}", layers.join(":"))],
            )]
        }),
    ];
    all.contained("roots_that_are_odd", |_| {
        by_hand("roots", |hand| {
            for (what, mounts) in ODD {
                let task = member(hand, what)?;
                if task.create(&mounts(hand), &Streams::default()).is_ok() {
                    // What is empty has no program: the start has to say so.
                    assert!(task.start(INIT).is_err(), "{what} runs");
                    task.delete(INIT)?;
                }
                let left = proc::mounts_below(&hand.bundle(what));
                assert!(left.is_empty(), "{what}: {left:?}");
            }
            Ok(())
        });
        Ok(())
    });
}

fn mount(kind: &str, source: &str, options: &[&str]) -> api::Mount {
    api::Mount {
        type_: kind.into(),
        source: source.into(),
        options: options.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

fn b03_descriptors(all: &mut Attacks) {
    all.contained("of_an_init_of_a_busy_shim_none_is_the_shim_s", |_| {
        by_hand("busy", |hand| {
            let first = member(hand, "first")?;
            first.create(&hand.rootfs(), &Streams::default())?;
            first.start(INIT)?;
            let silent: Vec<UnixStream> = (0..150)
                .map(|_| UnixStream::connect(socket(hand)))
                .collect::<Result<_, _>>()?;
            let second = member(hand, "second")?;
            let pid = second.create(&hand.rootfs(), &Streams::default())?;
            let found = created::leaks(Pid::from_raw(pid.try_into()?), "second");
            assert!(found.is_empty(), "{found:?}");
            drop(silent);
            Ok(())
        });
        Ok(())
    });
}

/// CVE-2020-15257: the shim listens where a container on the host's network can call.
fn c01_sockets(all: &mut Attacks) {
    all.contained("no_socket_of_a_shim_is_abstract", |_| {
        by_hand("abstract", |hand| {
            hand.running("one", &["/bin/sleep", "1000"])?;
            assert_eq!(abstract_sockets(), Vec::<String>::new());
            Ok(())
        });
        Ok(())
    });
    all.contained("a_user_can_not_connect_to_a_shim", |_| {
        by_hand("connect", |hand| {
            hand.prepare("one", &hand.spec("one", &["/bin/true"]))?;
            let socket = hand.start("one")?.socket;
            use std::os::unix::fs::PermissionsExt;
            let mode = |p: &Path| fs::metadata(p).map(|m| m.permissions().mode() & 0o777);
            assert_eq!(mode(&socket)?, 0o600);
            assert_eq!(mode(socket.parent().ok_or("a parent")?)? & 0o077, 0);
            Ok(())
        });
        Ok(())
    });
    all.control_of_look("a_socket_that_is_abstract", |_| {
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name("/containerd-shim/naive")
            .expect("an address");
        let listener = std::os::unix::net::UnixListener::bind_addr(&address).expect("a socket");
        assert_eq!(abstract_sockets().len(), 1);
        drop(listener);
        Ok(())
    });
}

fn abstract_sockets() -> Vec<String> {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    table
        .lines()
        .filter_map(|l| l.split(' ').next_back())
        .filter(|p| p.starts_with('@'))
        .map(String::from)
        .collect()
}

/// Gives `body` a containerd's directory and ends what it has made, so that the oracle sees only what escaped.
#[track_caller]
pub(crate) fn by_hand(name: &str, body: impl FnOnce(&ByHand) -> Check) {
    let hand =
        ByHand::new(&Places::find(), Manner::Bootstrap, name).unwrap_or_else(|e| panic!("{e:?}"));
    let result = body(&hand);
    let said = if result.is_err() {
        hand.testimony()
    } else {
        String::new()
    };
    hand.close();
    let cgroup = Path::new("/sys/fs/cgroup").join(hand.ctr_ns());
    let ours = || {
        proc::all()
            .into_iter()
            .filter(|p| proc::command_line(*p).iter().any(|a| a == hand.ctr_ns()))
    };
    let _ = eventually("the shims end", Duration::from_secs(3), || {
        rsrun_tests::cli::oracle::reap();
        ours().next().is_none() && proc::pids_in(&cgroup).is_empty()
    });
    for dir in [
        hand.directory().to_path_buf(),
        "/run/rsrun-by-hand".into(),
        "/run/containerd".into(),
        "/run/rsrun".into(),
    ] {
        let _ = fs::remove_dir_all(dir);
    }
    for file in fs::read_dir("/run").into_iter().flatten().flatten() {
        if file.file_name().to_string_lossy().starts_with("bh-") {
            let _ = fs::remove_file(file.path());
        }
    }
    for below in fs::read_dir(&cgroup).into_iter().flatten().flatten() {
        let _ = fs::remove_dir(below.path());
    }
    let _ = fs::remove_dir(&cgroup);
    if let Err(Stop::Fail(text) | Stop::Skip(text)) = result {
        panic!("{text}\n{said}");
    }
}

fn fresh(hand: &ByHand, id: &str) -> Check<Task> {
    hand.fresh(id, &["/bin/sleep", "1000"])
}

/// Connects to the shim of a pod, which is started for the first, for a container that waits.
pub(crate) fn member(hand: &ByHand, id: &str) -> Check<Task> {
    let mut spec = hand.spec(id, &["/bin/sleep", "1000"]);
    spec["annotations"]["io.kubernetes.cri.sandbox-id"] = "pod".into();
    hand.prepare(id, &spec)?;
    hand.task(&hand.start(id)?, id)
}

/// Where the shim of that pod listens.
pub(crate) fn socket(hand: &ByHand) -> PathBuf {
    PathBuf::from(SOCKETS).join(socket_name(&hand.address(), hand.ctr_ns(), "pod"))
}
