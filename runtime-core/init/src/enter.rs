//! How the child goes through its steps, and what it leaves behind when one fails.
//!
//! Before each step its index and the time go into the page; a failure adds the errno and the call. Once
//! the container's seccomp profile is loaded nothing is called that a step does not name: the
//! profile may answer any other call with death.

use core::ffi::CStr;
use core::sync::atomic::Ordering;

use crate::masks::Covers;
use crate::page::failpoint;
use crate::raw::{self, Failed, Outcome, PrctlNumber};
use crate::step::{Frozen, InArena, Step};
use crate::{
    console, credentials, devices, gate, inherited, masks, mounts, namespaces, paths, procfs,
    program, root, seccomp, signals, wake,
};

/// Does the steps of `frozen` in order. The last one, `Execute`, does not return; when a step fails, or
/// when none of them executed a program, the process ends with status 1.
pub fn enter(frozen: Frozen<'_>) -> ! {
    // Before all else, and not at execve: that looks its program up while close-on-exec ones are still open, so
    // /proc/self/fd/N/../.. in the arguments of an image would start at a directory of the host (CVE-2024-21626).
    raw::close_birthplace(frozen.birthplace);
    // Whatever the shim runs with: mount points get 0755 and 0644 at most. `Step::Umask` comes later.
    raw::umask(DEFAULT_UMASK);
    // Our programs are not dumpable, and so is their memory's copy. That is undone where nobody sees this process who must not:
    // else its files in procfs would be those of the host's root, which it may not be.
    if !frozen
        .steps
        .iter()
        .any(|step| matches!(step, Step::Undumpable))
    {
        let _ = raw::prctl(PrctlNumber::SetDumpable, [1, 0, 0, 0]);
    }
    let mut child = Child {
        frozen,
        root: NONE,
        in_chroot: false,
        proc: NONE,
        descriptors: NONE,
        attributes: NONE,
        gate: NONE,
        covers: Covers::default(),
        program: None,
        foreign_user: false,
        undumpable: false,
        in_directory: false,
        filtered: false,
    };
    for (index, step) in frozen.steps.iter().enumerate() {
        child.begin(index);
        if let Err(failed) = child.act(step) {
            child.fail(failed);
        }
    }
    child.fail(Failed::check(libc::ENOEXEC))
}

/// The file mode mask until `Step::Umask`.
pub const DEFAULT_UMASK: u32 = 0o022;

/// A descriptor that is not there: whoever uses it gets EBADF.
const NONE: i32 = -1;

/// What the child keeps between steps. The descriptors are open until execve closes them.
pub struct Child<'a> {
    pub frozen: Frozen<'a>,
    /// The container's root.
    pub root: i32,
    /// This process's root until the pivot is not that of its mount namespace.
    pub in_chroot: bool,
    /// The root of the procfs that it uses.
    pub proc: i32,
    /// Its `self/fd` and `self/attr`, where they were taken hold of before they could be covered.
    pub descriptors: i32,
    pub attributes: i32,
    /// The open fifo that `start` reads.
    pub gate: i32,
    /// What masked files and directories are covered with.
    pub covers: Covers,
    /// What `Execute` executes.
    pub program: Option<&'a CStr>,
    /// `BecomeRoot` was done: this is a user namespace below the caller's.
    pub foreign_user: bool,
    /// `Undumpable` was done. A change of ids sets what fs.suid_dumpable says, so it is said again.
    pub undumpable: bool,
    /// `Cwd` has succeeded.
    pub in_directory: bool,
    /// The container's seccomp profile is in force.
    pub filtered: bool,
}

impl<'a> Child<'a> {
    fn begin(&self, index: usize) {
        let page = self.frozen.page;
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        page.step.store(number, Ordering::Release);
        if self.filtered {
            return;
        }
        if let Some(time) = page.times.get(index) {
            time.store(raw::monotonic_ns(), Ordering::Relaxed);
        }
        if page.failpoint_step.load(Ordering::Acquire) == number {
            self.stand_at_failpoint();
        }
    }

    /// A pid 1 is deaf to SIGSTOP and SIGKILL of its own, so stopping is waiting for the tester to
    /// change the page, and dying is a call that seccomp's strict mode forbids: SIGKILL by the kernel.
    fn stand_at_failpoint(&self) {
        let kind = &self.frozen.page.failpoint_kind;
        while kind.load(Ordering::Acquire) == failpoint::STOP {
            raw::nap();
        }
        if kind.load(Ordering::Acquire) == failpoint::KILL {
            let _ = raw::prctl(
                PrctlNumber::SetSeccomp,
                [u64::from(libc::SECCOMP_MODE_STRICT), 0, 0, 0],
            );
            raw::signal_self(libc::SIGKILL);
            raw::exit(137);
        }
    }

    /// Notes the failure, tells a waiting `start`, ends. The errno is last: it says that the rest holds.
    fn fail(&self, failed: Failed) -> ! {
        let page = self.frozen.page;
        page.syscall.store(failed.syscall, Ordering::Release);
        page.errno.store(failed.errno, Ordering::Release);
        gate::tell(self.gate, page.step.load(Ordering::Acquire), failed.errno);
        raw::exit(1)
    }

    #[rustfmt::skip] // one line for each step: this is the table of contents of the child
    fn act(&mut self, step: &'a Step<InArena<'a>>) -> Outcome<()> {
        match step {
            Step::ResetSignals => signals::reset(),
            Step::ResetInherited => inherited::reset(),
            Step::AwaitAdoption => wake::exchange(self, crate::step::Wake::Adopted),
            Step::JoinNamespace { fd, flag } => raw::setns(*fd, *flag),
            Step::Unshare { flags } => raw::unshare(*flags),
            Step::BecomeRoot => namespaces::become_root(self),
            Step::Reborn => namespaces::be_reborn(self),
            Step::OpenProc => procfs::open(self),
            Step::TimeNamespace { offsets } => namespaces::new_time(self, offsets),
            Step::LoopbackUp => namespaces::see_to_loopback(self),
            Step::Hostname { name } => raw::sethostname(name),
            Step::Domainname { name } => raw::setdomainname(name),
            Step::Sysctl { path, value } => procfs::sysctl(self, path, value),
            Step::AttachRoot { tree, at } => root::attach(self, *tree, at),
            Step::OpenRoot => root::open(self),
            Step::MountFilesystem { fstype, source, params, flags, target, copy_up, after, becomes_proc } =>
                mounts::filesystem(self, &mounts::Filesystem {
                    fstype, source, params, flags: *flags, target, copy_up: *copy_up, after: *after,
                    becomes_proc: *becomes_proc,
                }),
            Step::AttachTree { tree, target } => mounts::tree(self, *tree, target),
            Step::SetMountAttributes { target, change } => mounts::change(self, target, *change),
            Step::MakeDirectory { path } => paths::directory(self.root, path).map(drop),
            Step::MakeNode { path, mode, major, minor, uid, gid } =>
                devices::node(self, path, *mode, (*major, *minor), (*uid, *gid)),
            Step::MakeLink { path, points_to, replace } =>
                devices::link(self, path, points_to, *replace),
            Step::MaskPath { path } => masks::cover(self, path),
            Step::ReadonlyPath { path } => masks::readonly(self, path),
            Step::AwaitHooks => wake::exchange(self, crate::step::Wake::HooksDue),
            Step::PivotRoot => root::pivot(self),
            Step::MoveRoot => root::stay_below(self),
            Step::OpenConsole { rows, columns, uid, bind } =>
                console::open(self, (*rows, *columns), *uid, *bind),
            Step::NewSession { terminal } => console::new_session(*terminal),
            Step::PlaceFd { fd, to, owner } => program::place(self, *fd, *to, *owner),
            Step::KeepFd { fd } => raw::inherit(*fd),
            Step::SessionKeyring { name } => credentials::session_keyring(self, name),
            Step::Label { file, value } => procfs::label(self, file, value),
            Step::Rlimit { resource, soft, hard } => raw::setrlimit(*resource, *soft, *hard),
            Step::Umask { mask } => { raw::umask(*mask); Ok(()) }
            Step::Personality { persona } => raw::personality(*persona),
            Step::Scheduler { policy, nice, priority, flags, runtime, deadline, period } =>
                inherited::schedule(*policy, *flags, *nice, *priority, [*runtime, *deadline, *period]),
            Step::IoPriority { value } => raw::ioprio_set(*value),
            Step::Affinity { mask } => inherited::affinity(mask),
            Step::MemoryPolicy { mode, nodes } => raw::set_mempolicy(*mode, nodes),
            Step::BoundingSet { keep } => credentials::bound(*keep),
            Step::Identity { uid, gid, groups } => credentials::identity(self, *uid, *gid, groups),
            Step::Capabilities(sets) => credentials::capabilities(*sets),
            Step::NoNewPrivileges =>
                raw::prctl(PrctlNumber::NoNewPrivileges, [1, 0, 0, 0]).map(drop),
            Step::Seccomp { filter, flags, listener } =>
                seccomp::load(self, filter, *flags, *listener),
            Step::Cwd { path, retry } => program::enter_directory(self, path, *retry),
            Step::Undumpable => { self.undumpable = true; credentials::hide(self) }
            Step::FindProgram { candidates } => program::find(self, candidates),
            Step::Ready { wait: true } => wake::ready(self),
            Step::Ready { wait: false } => wake::tell(self, crate::step::Wake::Ready),
            Step::Gate { fifo } => gate::open(self, *fifo),
            Step::CloseOnExec { from } => raw::close_on_exec_from(*from),
            Step::Execute { argv, env } => program::execute(self, argv, env),
        }
    }
}
