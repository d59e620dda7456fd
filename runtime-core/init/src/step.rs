//! What a container's process does between clone and execve, one value for each thing.
//!
//! One enum serves both halves: the plan holds `Step<Planned>` with owned strings and names of
//! descriptors (printable, comparable), the child reads `Step<InArena>` whose texts lie in one arena
//! and whose descriptors are numbers. Freezing is the map from the first to the second.
//!
//! Paths of a step are *inside the container*, absolute, and resolved below the root descriptor with
//! `openat2(RESOLVE_IN_ROOT)`; nothing here is ever looked up on the host by name.

use core::ffi::CStr;
use core::fmt::Debug;
use core::marker::PhantomData;

use crate::Page;

/// Where the texts and descriptors of a step live: the owned plan, or the arena of the child.
pub trait Stage: Clone + Debug + PartialEq {
    /// A NUL-terminated text: a path, a name, a value.
    type Text: Clone + Debug + PartialEq;
    /// A list of texts; in the arena an array of pointers that ends with a null pointer.
    type Texts: Clone + Debug + PartialEq;
    /// A descriptor: a name in the plan, a number in the child.
    type Fd: Copy + Debug + PartialEq;
    /// Supplementary group ids.
    type Groups: Clone + Debug + PartialEq;
    /// `fsconfig` parameters in order.
    type Params: Clone + Debug + PartialEq;
    /// A classic BPF program.
    type Filter: Clone + Debug + PartialEq;
    /// A CPU mask, bit n of word n/64 for CPU n.
    type CpuMask: Clone + Debug + PartialEq;
}

/// The stage of the child: everything borrowed from one arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InArena<'a>(PhantomData<&'a ()>);

impl<'a> Stage for InArena<'a> {
    type Text = &'a CStr;
    type Texts = TextList<'a>;
    type Fd = i32;
    type Groups = &'a [u32];
    type Params = &'a [Param<InArena<'a>>];
    type Filter = &'a [FilterLine];
    type CpuMask = &'a [u64];
}

/// Texts as execve wants them: `items` are the same texts that `pointers` point to, and `pointers`
/// has one more entry, null.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextList<'a> {
    /// The texts in order.
    pub items: &'a [&'a CStr],
    /// The same as C pointers, null-terminated.
    pub pointers: &'a [*const core::ffi::c_char],
}

/// One `fsconfig(2)` call on a new filesystem context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param<P: Stage> {
    /// A word without a value (`FSCONFIG_SET_FLAG`), such as `ro`.
    Flag(P::Text),
    /// `key=value` (`FSCONFIG_SET_STRING`).
    Text(P::Text, P::Text),
}

/// One classic BPF instruction, `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterLine {
    /// Operation.
    pub code: u16,
    /// Jump when true.
    pub jt: u8,
    /// Jump when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Changes to the attributes of a mount: the arguments of `mount_setattr(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttributes {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 to leave it.
    pub propagation: u64,
    /// Also for every mount below (`AT_RECURSIVE`).
    pub recursive: bool,
}

/// Capability sets as 64-bit masks, bit n for capability n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// CapEff
    pub effective: u64,
    /// CapPrm
    pub permitted: u64,
    /// CapInh
    pub inheritable: u64,
    /// CapAmb
    pub ambient: u64,
}

/// A byte on the wake socket. The facts are in the page; a byte only says "look".
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Child → parent: the parent's writes (maps, limits) are awaited; parent → child: they are done.
    Adopted = 1,
    /// Child → parent: the mounts stand, the hooks of create may run; parent → child: they have.
    HooksDue = 2,
    /// Child → parent: carries the terminal's master as SCM_RIGHTS.
    Console = 3,
    /// Child → parent: nothing but the gate (or execve) is left; parent → child: cgroup limits hold.
    Ready = 4,
    /// Child → parent: the seccomp listener comes next; look at `Page::listener` until it has a number,
    /// take it with pidfd_getfd, then set `Page::listener_taken`.
    Listener = 5,
}

/// One thing the child does. Order is the plan's business; the child does them as they come.
///
/// The child keeps three descriptors as it goes: *root* (the container's root, set by `AttachRoot` or
/// `OpenRoot`), *proc* (a procfs of its own, set by `OpenProc` or a `MountFilesystem`) and the chosen
/// program (set by `FindProgram`).
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the text of each variant explains its fields")]
pub enum Step<P: Stage> {
    /// Unblock every signal; give signals that end a process by default a handler that does
    /// `_exit(128+n)` (pid 1 of a namespace would ignore them), all others SIG_DFL. execve turns the
    /// handlers into SIG_DFL. Rust's runtime ignores SIGPIPE, which would survive execve.
    ResetSignals,
    /// Undo what the process inherits from the shim: nice and io priority to default, timer slack
    /// to default, personality 0, securebits 0, THP-disable off, child-subreaper is not inherited.
    ResetInherited,
    /// Wait for the parent to write maps, oom_score_adj and raised limits: send `Wake::Adopted`,
    /// read one byte. EOF ends the process.
    AwaitAdoption,
    /// `setns(fd, flag)`; `flag` is one CLONE_NEW* bit. After CLONE_NEWUSER all capabilities of that
    /// namespace are held.
    JoinNamespace { fd: P::Fd, flag: u64 },
    /// `unshare(flags)`.
    Unshare { flags: u64 },
    /// `setgroups([])` (skipped where the namespace denies it), `setresgid(0)`, `setresuid(0)`: the
    /// first thing in a new or foreign user namespace.
    BecomeRoot,
    /// Be born again in the pid namespace joined by an earlier `JoinNamespace`: `clone3` with
    /// `CLONE_PARENT`, note the new process's host pid in the page (`Page::reborn`), end the
    /// intermediate one with status 0. Used where a pid namespace is joined at create: nothing is
    /// seen there before the root has been changed.
    Reborn,
    /// Mount a private procfs of the present pid namespace, detached, and keep it as *proc*.
    OpenProc,
    /// New time namespace: unshare, write `offsets` ("monotonic S NS\nboottime S NS\n") to
    /// `self/timens_offsets` of *proc*, enter it by `self/ns/time_for_children`.
    TimeNamespace { offsets: P::Text },
    /// Set `lo` up in the network namespace that was made for this process.
    LoopbackUp,
    /// `sethostname`.
    Hostname { name: P::Text },
    /// `setdomainname`.
    Domainname { name: P::Text },
    /// Write `value` to `sys/<path>` of *proc*; `path` has slashes, never `..`.
    Sysctl { path: P::Text, value: P::Text },
    /// Make all mounts of this namespace slaves, attach the detached tree `tree` at the host's path `at`
    /// (where hooks look for it; over `/` where this process may not get there), keep it as *root*. The process's own root stays the old one until `PivotRoot`.
    AttachRoot { tree: P::Fd, at: P::Text },
    /// *root* := the present `/` (exec, hooks inside).
    OpenRoot,
    /// Create a filesystem (`fsopen`, `fsconfig`, `fsmount`) and attach it at `target`.
    /// `flags` are `MOUNT_ATTR_*` for fsmount. With `copy_up` what `target` held is copied into it
    /// before it is attached. `after` is applied to the attached mount. With `becomes_proc` it is *proc* from
    /// then on.
    MountFilesystem {
        fstype: P::Text,
        source: P::Text,
        params: P::Params,
        flags: u64,
        target: P::Text,
        copy_up: bool,
        after: MountAttributes,
        becomes_proc: bool,
    },
    /// Attach the detached tree `tree` (made and given its attributes by the parent) at `target`,
    /// which is created as a directory or a file like the tree's root where it is missing.
    AttachTree { tree: P::Fd, target: P::Text },
    /// `mount_setattr` on what is mounted at `target`.
    SetMountAttributes {
        target: P::Text,
        change: MountAttributes,
    },
    /// `mkdir -p` below *root*, mode 0755: a working directory that the image lacks.
    MakeDirectory { path: P::Text },
    /// A device node (or fifo, `S_IFIFO`): `mode` is type and permissions, owner `uid`:`gid`.
    /// An existing node of the same type and number is accepted.
    MakeNode {
        path: P::Text,
        mode: u32,
        major: u32,
        minor: u32,
        uid: u32,
        gid: u32,
    },
    /// A symbolic link; something that has its name already is accepted, as runc does; with `replace`
    /// something else than the same link is removed first (`/dev/ptmx`).
    MakeLink {
        path: P::Text,
        points_to: P::Text,
        replace: bool,
    },
    /// Cover `path`: a directory by one shared, empty, read-only tmpfs, anything else by the host's
    /// /dev/null (checked to be character device 1:3). A missing path is nothing to cover.
    MaskPath { path: P::Text },
    /// Make `path` read-only (clone of the tree, `MOUNT_ATTR_RDONLY`, attached over it). A missing
    /// path is no error.
    ReadonlyPath { path: P::Text },
    /// Tell the parent that hooks of create may run in this process's namespaces, wait until done.
    AwaitHooks,
    /// `fchdir(root)`, `pivot_root(".", ".")`, lazily unmount the old root, `chdir("/")`.
    PivotRoot,
    /// The way without pivot_root (root is an initramfs): move *root* over `/` with all else
    /// unmounted or hidden, `chroot(".")`.
    MoveRoot,
    /// Open `/dev/pts/ptmx` below *root* (checked to be devpts, 5:2), its peer by TIOCGPTPEER, owner
    /// `uid`, size; with `bind` the peer is attached to `/dev/console`. The peer becomes fd 0, 1, 2;
    /// the master goes to the parent with `Wake::Console`.
    OpenConsole {
        rows: u16,
        columns: u16,
        uid: u32,
        bind: bool,
    },
    /// `setsid`; with `terminal` fd 0 becomes the controlling terminal.
    NewSession { terminal: bool },
    /// `dup3(fd, to)` without close-on-exec. With `owner` the file is given to that uid, as
    /// runc does with the standard streams (EPERM, EROFS, EINVAL, ENOSYS of that are no error, and
    /// `/dev/null` is left alone).
    PlaceFd {
        fd: P::Fd,
        to: i32,
        owner: Option<u32>,
    },
    /// Clear close-on-exec of a descriptor that the program inherits (`--preserve-fds`).
    KeepFd { fd: P::Fd },
    /// Join a new session keyring of this name.
    SessionKeyring { name: P::Text },
    /// Write `value` to `self/attr/<file>` of *proc* (LSM labels for the coming execve).
    Label { file: P::Text, value: P::Text },
    /// `prlimit` on self, exactly; hard limits above the inherited were raised by the parent before.
    Rlimit { resource: u32, soft: u64, hard: u64 },
    /// `umask`.
    Umask { mask: u32 },
    /// `personality`.
    Personality { persona: u64 },
    /// `sched_setattr`: `struct sched_attr` of 48 bytes or more as numbers.
    Scheduler {
        policy: u32,
        nice: i32,
        priority: u32,
        flags: u64,
        runtime: u64,
        deadline: u64,
        period: u64,
    },
    /// `ioprio_set(IOPRIO_WHO_PROCESS, 0, value)`; class in the top three bits.
    IoPriority { value: u32 },
    /// `sched_setaffinity` of this process. An empty mask means every CPU.
    Affinity { mask: P::CpuMask },
    /// `set_mempolicy(mode | flags, nodes)`.
    MemoryPolicy { mode: u32, nodes: P::CpuMask },
    /// Drop every capability that is not in `keep` from the bounding set.
    BoundingSet { keep: u64 },
    /// `PR_SET_KEEPCAPS`, setgroups, setresgid, setresuid (raw: libc's signal all threads), then
    /// KEEPCAPS off. Effective capabilities are gone for a non-root `uid` until `Capabilities`;
    /// those in `permitted` are made effective again at once, so that later steps can act.
    Identity {
        uid: u32,
        gid: u32,
        groups: P::Groups,
    },
    /// The final sets: capset, then ambient cleared and raised one by one.
    Capabilities(CapabilitySets),
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// Load the filter; `flags` are `SECCOMP_FILTER_FLAG_*`. With `listener` the number of the
    /// notification descriptor is noted in the page (`Page::listener`) after `Wake::Listener`, and the
    /// child waits for `Page::listener_taken`. Such a step stands before `Ready`: who starts the
    /// container may be another process, which has no page.
    Seccomp {
        filter: P::Filter,
        flags: u32,
        listener: bool,
    },
    /// `chdir(path)`, then `getcwd` must be an absolute path inside the root (CVE-2024-21626).
    /// With `retry` EACCES and EPERM are left to the second such step after `Identity`, which does nothing
    /// where the first succeeded.
    Cwd { path: P::Text, retry: bool },
    /// `PR_SET_DUMPABLE 0` while in somebody else's pid namespace; execve resets it.
    Undumpable,
    /// Choose the first of `candidates` (absolute, or relative to the working directory) that is a
    /// regular file which this process may execute. ENOENT if there is none, EACCES if one was there
    /// and may not be executed.
    FindProgram { candidates: P::Texts },
    /// Tell the parent Ready; wait for one byte when `wait` (cgroup limits and device program are
    /// then in force).
    Ready { wait: bool },
    /// Open the fifo `fd` (O_PATH) for writing through *proc* and keep it: blocks until somebody
    /// opens it for reading. Close-on-exec, so that success is EOF; a failed execve writes
    /// step and errno into it.
    Gate { fifo: P::Fd },
    /// Close every descriptor from 3 on at execve (`close_range(CLOSE_RANGE_CLOEXEC)`), but those kept
    /// by `KeepFd`, which come last.
    CloseOnExec { from: u32 },
    /// `execve` of what `FindProgram` chose.
    Execute { argv: P::Texts, env: P::Texts },
}

/// A plan in the form the child reads: nothing in it needs a destructor, nothing points to the heap.
#[derive(Clone, Copy, Debug)]
pub struct Frozen<'a> {
    /// What to do, in order. The last one is `Execute`.
    pub steps: &'a [Step<InArena<'a>>],
    /// Facts for the parent.
    pub page: &'a Page,
    /// The child's end of the wake socket (SOCK_SEQPACKET, close-on-exec).
    pub wake: i32,
    /// The cgroup's directory that clone3 was given, or -1: in the child's table because it was in its
    /// maker's, and the first thing that goes.
    pub birthplace: i32,
}

impl Copy for Step<InArena<'_>> {}

const _: () = assert!(!core::mem::needs_drop::<Step<InArena<'static>>>());
