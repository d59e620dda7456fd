//! The plan: every step that a process of a container needs, in order, as a value.
//!
//! Pure: nothing below this module does I/O. The same spec on the same host gives an equal plan; it
//! can be printed (`rsrun run --explain`) and compared before anything is done.

use std::ffi::CString;
use std::path::PathBuf;

use rsrun_init::step::{FilterLine, MountAttributes, Param, Stage, Step};
use serde::{Deserialize, Serialize};

mod capabilities;
mod cgroup;
mod checks;
mod create;
mod devices;
mod draft;
mod environment;
mod exec;
mod facts;
mod holder;
mod hooks;
mod labels;
mod mount;
mod mounts;
pub mod namespaces;
mod option_words;
mod options;
mod params;
mod process;
mod scheduling;
mod sysctl;
#[cfg(test)]
mod tests;
mod text;
mod value_words;
mod words;

pub use capabilities::CAPABILITY_NAMES;
pub use cgroup::{CgroupRequest, default_device_rules};
pub use create::create;
pub use exec::exec;
pub use facts::{
    ContainerHooks, ContainerPlan, CreateFacts, ExecAsk, ExecFacts, Listener, ProcessPlan,
    ProgramWords, SeccompProgram,
};
pub use holder::{userns_holder, userns_visitor};
pub use hooks::{HookPlace, Inside, hook, program};
pub use option_words::mount_option_words;
pub use words::{explain, explain_container, step_words, words_in};

/// The stage of the plan: texts owned, descriptors named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned;

impl Stage for Planned {
    type Text = CString;
    type Texts = Vec<CString>;
    type Fd = FdName;
    type Groups = Vec<u32>;
    type Params = Vec<Param<Planned>>;
    type Filter = Vec<FilterLine>;
    type CpuMask = Vec<u64>;
}

/// A step of a plan.
pub type PlanStep = Step<Planned>;

/// The name of a descriptor in a plan: an index into [`Plan::fds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FdName(pub usize);

/// One range of an id map, as in `/proc/PID/uid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl IdRange {
    /// A line of `/proc/PID/uid_map`.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        let (inside, outside, count) = (next()?, next()?, next()?);
        numbers.next().is_none().then_some(Self {
            inside,
            outside,
            count,
        })
    }
}

/// The id maps of a user namespace or of an id-mapped mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// User ids.
    pub uid: Vec<IdRange>,
    /// Group ids.
    pub gid: Vec<IdRange>,
}

/// What a descriptor of the plan is; the parent opens it before the launch.
#[derive(Clone, Debug, PartialEq)]
pub enum FdSource {
    /// Standard stream 0, 1 or 2 as given by the caller (`/dev/null` where none was).
    Stream(u8),
    /// A descriptor of the caller by its number (`--preserve-fds`).
    Inherited(i32),
    /// A namespace file, such as `/proc/1/ns/net` or `/run/netns/x`; it must be of the kind `flag`.
    Namespace {
        /// Where it is on the host.
        path: PathBuf,
        /// The CLONE_NEW* bit.
        flag: u64,
    },
    /// The pidfd of the container's init (exec, hooks).
    InitPidfd,
    /// A detached clone of the mount tree at `path`, with `changes` applied in order, then id-mapped.
    Tree {
        /// Where it is on the host.
        path: PathBuf,
        /// With the mounts below it.
        recursive: bool,
        /// mount_setattr calls, in order.
        changes: Vec<MountAttributes>,
        /// Id map of the mount: its own, or that of the container's user namespace.
        idmap: Option<IdMaps>,
        /// The id map holds for the whole tree (`ridmap`).
        idmap_recursive: bool,
    },
    /// The fifo of the gate, O_PATH.
    Gate,
    /// A file of the host, opened O_PATH.
    HostPath(PathBuf),
    /// The root directory of the container's init as it stands now (`/proc/PID/root`), O_PATH.
    InitRoot,
}

/// Namespaces that the launch thread enters before clone3, by one setns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// A namespace file or a pidfd.
    pub fd: FdName,
    /// CLONE_NEW* bits; several only with a pidfd.
    pub flags: u64,
}

/// What the parent writes between clone3 and the answer to `Step::AwaitAdoption`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adoption {
    /// Maps of the new user namespace; empty when there is none.
    pub maps: IdMaps,
    /// `/proc/PID/oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// Hard limits that are above what is inherited: (resource, hard). The child sets the exact values.
    pub raise: Vec<(u32, u64)>,
}

/// Everything about one process: how it is born and what it does.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Descriptors that `steps` and `joins` name. The child has these, its wake socket, no other.
    pub fds: Vec<FdSource>,
    /// Entered on the launch thread, in order.
    pub joins: Vec<Join>,
    /// After the joins the thread makes this directory its root (hooks before pivot_root: setns of a
    /// mount namespace lands on top of whatever covers `/`, which is the container's root already).
    pub root: Option<FdName>,
    /// CPUs of the thread during clone3 (`execCPUAffinity.initial`); the kernel narrows them to the
    /// cpuset of the cgroup. `None` leaves them.
    pub thread_affinity: Option<Vec<u64>>,
    /// The thread then keeps only these capabilities (exec into a namespace others see).
    pub keep_capabilities: Option<u64>,
    /// CLONE_NEW* flags of clone3.
    pub clone_flags: u64,
    /// The parent's writes.
    pub adoption: Adoption,
    /// The child's steps; the last is `Execute`.
    pub steps: Vec<PlanStep>,
}
