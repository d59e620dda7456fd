//! Does a container stay in its root where the runtime's own `/` is not that of its mount namespace?
//!
//! It runs in a chroot then, or something was mounted over `/`. Whoever enters a mount namespace stands on top of the
//! namespace's root: an exec does, and so does a container that may call setns on its own. A user namespace can't be
//! made there: the kernel refuses that to who is in a chroot.
use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::ground::Ground;
use rsrun_tests::cli::runtime::{Output, finish};
use rsrun_tests::cli::suite::Suite;
use serde_json::json;
use std::fs;
use std::process::{Command, Stdio};

pub(crate) fn cases(suite: &mut Suite) {
    let machines = [
        (
            "a_chroot_that_is_a_mount",
            "mount --bind $jail $jail; enter_jail",
            "",
        ),
        ("a_chroot_that_is_no_mount", "enter_jail", ""),
        (
            "a_chroot_on_shared_mounts",
            "mount --make-rshared /; mount --bind $jail $jail; enter_jail",
            "",
        ),
        (
            "a_chroot_without_pivot",
            "mount --bind $jail $jail; enter_jail",
            "--no-pivot",
        ),
        // This process stays in the root that lies below.
        (
            "a_root_that_is_covered",
            "mount --bind / /; rsrun() { $program --root $dir/state \"$@\"; }; bundle=$dir",
            "",
        ),
    ];
    for (what, prepare, option) in machines {
        let name = format!("in_{what}_nobody_comes_to_the_hosts_root");
        suite.case(name, move |g| {
            g.differs_from_runc(
                "what the root of the mount namespace is where it runs in a chroot",
            )?;
            stays_inside(g, &mut g.bundle(), prepare, option);
            Ok(())
        });
    }
}

/// It has a mount namespace of its own: what it mounts ends with it.
const SCRIPT: &str = r#"
set -eu
dir=$1 jail=$1/jail id=$2 program=$3 canary=$1/canary
mkdir $jail
enter_jail() {
    for place in proc dev sys/fs/cgroup run tmp bundle/rootfs; do mkdir -p $jail/$place; done
    mount -t proc proc $jail/proc
    mount --rbind /dev $jail/dev
    mount --bind /sys/fs/cgroup $jail/sys/fs/cgroup
    mount -t tmpfs tmpfs $jail/run
    mount --bind $dir/rootfs $jail/bundle/rootfs
    cp $program $jail/rsrun
    cp $dir/config.json $jail/bundle/
    rsrun() { chroot $jail /rsrun --root /run/state "$@"; }
    bundle=/bundle
}
PREPARE
mounts=$(wc -l < /proc/self/mountinfo)
rsrun run --detach OPTION --bundle $bundle $id > /dev/null
trap 'rsrun delete --force $id' EXIT
echo "exec $(rsrun exec $id /bin/sh -c "echo /bin/probe $canary*")"
echo "setns $(rsrun exec --cap CAP_SYS_ADMIN --cap CAP_SYS_CHROOT $id \
    /bin/busybox nsenter -m/proc/self/ns/mnt /bin/sh -c "echo /bin/probe $canary*")"
echo "mounts $(($(wc -l < /proc/self/mountinfo) - mounts))"
"#;

fn stays_inside(g: &Ground, b: &mut Bundle<'_>, prepare: &str, option: &str) {
    b.args(&["/bin/sleep", "1000"])
        .set("/root/path", json!("rootfs"));
    b.write();
    fs::write(b.dir.join("canary"), "the host's\n").expect("a canary");
    let script = SCRIPT.replace("PREPARE", prepare).replace("OPTION", option);
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .arg("sh")
        .arg(&b.dir)
        .arg(&b.id)
        .arg(&b.runtime().path)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null());
    let Output { stdout, .. } = finish(command, &g.work.join("root")).ok();
    // A star that finds nothing stays as it is.
    let nobody = format!("/bin/probe {}/canary*", b.dir.display());
    assert_eq!(
        stdout,
        format!("exec {nobody}\nsetns {nobody}\nmounts 0\n"),
        "what an exec sees, what a setns sees, and how many of the host's mounts went"
    );
}
