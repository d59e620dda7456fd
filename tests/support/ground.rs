//! Where does a suite stand while it runs? On ground of its own: private mount,
//! pid and cgroup namespaces, a fresh `/run`, and one cgroup that holds it all.
//!
//! ```text
//! the program as started            unshares mount and pid namespaces, waits,
//!   │                               then kills and removes the suite's cgroup
//!   └ role "init": pid 1 inside     mounts /proc, /run, cgroup2; reaps orphans
//!       └ role "suite": the tests   whatever they leave dies with pid 1
//! ```
//!
//! So a test that panics, hangs or is killed leaves no process, mount, socket
//! or cgroup on the machine, and the machine's own cgroup mounts stay as they
//! are: on a hybrid host the unified tree exists in the private namespace only.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

const ROLE: &str = "RSRUN_GROUND_ROLE";
const CGROUP: &str = "RSRUN_GROUND_CGROUP";
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Runs `suite` on private ground; the whole of a suite's `main`.
///
/// Without root, or when tests are only listed, `suite` runs where it is: its
/// cases then skip themselves, see [`privileged`].
pub fn on_private_ground(suite: impl FnOnce() -> ExitCode) -> ExitCode {
    let listing = std::env::args().any(|a| a == "--list");
    if listing || !nix::unistd::geteuid().is_root() {
        return suite();
    }
    match std::env::var(ROLE).as_deref() {
        Ok("suite") => suite(),
        Ok(_) => report("prepare the ground", init()),
        Err(_) => report("leave for private ground", outer()),
    }
}

/// Whether this process stands on private ground.
pub fn privileged() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Whether the unified hierarchy has the controllers that limits need.
pub fn has_controllers() -> bool {
    let listed = fs::read_to_string(format!("{CGROUP_ROOT}/cgroup.controllers"));
    listed.is_ok_and(|l| {
        ["cpu", "memory", "pids"]
            .iter()
            .all(|c| l.split_whitespace().any(|w| w == *c))
    })
}

fn report(what: &str, result: io::Result<u8>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("{what}: {e}");
            ExitCode::from(101)
        }
    }
}

fn outer() -> io::Result<u8> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )?;
    unify_cgroups()?;
    sweep();
    let cgroup = PathBuf::from(CGROUP_ROOT).join(format!("rsrun-suite-{}", std::process::id()));
    fs::create_dir(&cgroup)?;
    delegate(Path::new(CGROUP_ROOT));

    unshare(CloneFlags::CLONE_NEWPID)?;
    let status = again("init").env(CGROUP, &cgroup).status();
    // Also after an error: the cgroup is ours and must not stay.
    remove_cgroup(&cgroup)?;
    Ok(code_of(status?))
}

/// The first process of the pid namespace: all others end when it does.
fn init() -> io::Result<u8> {
    // A suite that is ended from outside must take everything with it.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let outside = std::env::var_os(CGROUP).ok_or(io::ErrorKind::NotFound)?;
    // A cgroup namespace is rooted where its maker is, so go there, look around
    // and step aside: a cgroup with processes can't hand controllers down.
    fs::write(Path::new(&outside).join("cgroup.procs"), "0")?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP)?;
    umount2(CGROUP_ROOT, MntFlags::MNT_DETACH)?;
    mount_cgroup2()?;
    let harness = Path::new(CGROUP_ROOT).join("harness");
    fs::create_dir(&harness)?;
    fs::write(harness.join("cgroup.procs"), "0")?;
    delegate(Path::new(CGROUP_ROOT));

    mount(
        Some("proc"),
        "/proc",
        Some("proc"),
        MsFlags::empty(),
        None::<&str>,
    )?;
    mount(
        Some("tmpfs"),
        "/run",
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=0755"),
    )?;

    let suite = Pid::from_raw(again("suite").spawn()?.id().try_into().unwrap_or(i32::MAX));
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == suite => {
                return Ok(code.try_into().unwrap_or(101));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == suite => {
                eprintln!("the suite was ended by {signal}");
                return Ok(101);
            }
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn again(role: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(std::env::args_os().skip(1)).env(ROLE, role);
    command
}

fn code_of(status: std::process::ExitStatus) -> u8 {
    if let Some(signal) = status.signal() {
        eprintln!("the suite's init was ended by signal {signal}");
    }
    status
        .code()
        .and_then(|c| u8::try_from(c).ok())
        .unwrap_or(101)
}

fn unify_cgroups() -> io::Result<()> {
    if Path::new(CGROUP_ROOT).join("cgroup.controllers").exists() {
        return Ok(());
    }
    // Lazily and from the top: the parts of a hybrid tree are mounts below it.
    umount2(CGROUP_ROOT, MntFlags::MNT_DETACH)?;
    mount_cgroup2()
}

fn mount_cgroup2() -> io::Result<()> {
    Ok(mount(
        Some("cgroup2"),
        CGROUP_ROOT,
        Some("cgroup2"),
        MsFlags::empty(),
        None::<&str>,
    )?)
}

/// Hands every controller of `cgroup` to its children. Single ones may be
/// refused (cpu, while realtime processes exist) without harm to the others.
fn delegate(cgroup: &Path) {
    let listed = fs::read_to_string(cgroup.join("cgroup.controllers")).unwrap_or_default();
    for controller in listed.split_whitespace() {
        let _ = fs::write(
            cgroup.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
    }
}

/// Removes the cgroups of suites that could not do it themselves any more.
fn sweep() {
    let Ok(entries) = fs::read_dir(CGROUP_ROOT) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.strip_prefix("rsrun-suite-")) else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            // Another suite may be sweeping too; what stays is swept next time.
            let _ = remove_cgroup(&entry.path());
        }
    }
}

/// Kills what is left in `cgroup` and removes it with all below.
fn remove_cgroup(cgroup: &Path) -> io::Result<()> {
    fs::write(cgroup.join("cgroup.kill"), "1")?;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match remove_tree(cgroup) {
            Err(e) if Instant::now() > deadline => return Err(e),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
            Ok(()) => return Ok(()),
        }
    }
}

fn remove_tree(cgroup: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}
