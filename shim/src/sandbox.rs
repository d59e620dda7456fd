//! The group of containers that one serving process serves (a pod, or one container alone): who is in it, whose
//! child has ended, and when the process is no longer needed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rsrun_core::launch::Ahead;
use rsrun_core::process::{Children, Launching};
use rsrun_core::sys::heap::UnforkedHeap;
use rsrun_core::sys::{code, pidfd, spawn};
use rsrun_core::{ContainerId, Containers, Context, Exit};
use tokio::sync::Notify;
use tokio::time::sleep;
use ttrpc::Code;

use crate::container::exec::Exec;
use crate::container::{CreateCall, Owner};
use crate::event::Outbox;
use crate::failure::{Failure, Result};
use crate::io::{Launch, Launched, Program};
use crate::pending::{Asked, Pending};
use crate::task::Method;

/// See the module.
pub struct Sandbox {
    /// containerd's namespace.
    pub ctr_ns: String,
    /// Key of the group, recorded with each container.
    pub group: String,
    /// Events to containerd.
    pub outbox: Rc<Outbox>,
    /// Launches logging programs.
    pub launch: Launch,
    heap: &'static UnforkedHeap,
    /// Requests that are not answered.
    pub pending: Rc<Pending>,
    children: Arc<Children>,
    /// What was begun for the container that we were started for.
    ahead: RefCell<Option<Ahead>>,
    stores: RefCell<HashMap<PathBuf, Arc<Containers>>>,
    owners: RefCell<HashMap<String, Rc<Owner>>>,
    tracked: RefCell<HashMap<i32, Tracked>>,
    /// What decides whether the process may end; see [`Sandbox::may_end`].
    presence: RefCell<Presence>,
    settling: Cell<bool>,
    pub(crate) changed: Notify,
}

/// A process whose exit somebody is told of.
pub struct Tracked {
    /// Whose it is.
    pub owner: Rc<Owner>,
    /// `None` for the init.
    pub exec: Option<Rc<Exec>>,
}

#[derive(Default)]
struct Presence {
    /// containerd asked for the end.
    wished: bool,
    /// No new containers are taken.
    ending: bool,
    /// Connections that are open and have not sent a request yet, by number, and since when.
    silent: HashMap<u64, Instant>,
    /// Connections that are open and had an answer last, and since when.
    told: HashMap<u64, Instant>,
    /// When a `start` last found us serving, or somebody closed a connection without a request: containerd will come
    /// with a container in a moment.
    probed: Option<Instant>,
    /// Requests whose answers are not written yet.
    unanswered: usize,
}

/// How long after a launch or a request unused memory is given back.
const SETTLED: Duration = Duration::from_millis(500);

/// How long after a probe, or on a silent connection, a Create is awaited.
const AWAITED: Duration = Duration::from_secs(3);

/// How long after an answer the next request of who has it is awaited, or that he closes the connection.
const TOLD: Duration = Duration::from_secs(1);

impl Sandbox {
    /// An empty one.
    pub fn new(
        ctr_ns: String,
        group: String,
        outbox: Rc<Outbox>,
        heap: &'static UnforkedHeap,
    ) -> Rc<Self> {
        Rc::new(Self {
            ctr_ns,
            group,
            outbox,
            launch: Arc::new(launch),
            heap,
            pending: Rc::default(),
            children: Arc::default(),
            ahead: RefCell::default(),
            stores: RefCell::default(),
            owners: RefCell::default(),
            tracked: RefCell::default(),
            presence: RefCell::default(),
            settling: Cell::new(false),
            changed: Notify::new(),
        })
    }

    /// The containers below a state root; all roots share one reaper.
    pub fn containers(&self, root: &Path) -> Result<Arc<Containers>> {
        if let Some(store) = self.stores.borrow().get(root) {
            return Ok(Arc::clone(store));
        }
        let store = Containers::with_children(root, Arc::clone(&self.children))?;
        // Beside: they are the same in every namespace of containerd, and outlive this one.
        let store = Arc::new(store.with_profiles_beside());
        self.stores
            .borrow_mut()
            .insert(root.to_owned(), Arc::clone(&store));
        Ok(store)
    }

    /// A Create for this bundle is on the way, unless it has come already.
    pub fn expect(&self, bundle: &Path) {
        if self.owners.borrow().is_empty() {
            *self.ahead.borrow_mut() = Some(Ahead::expecting(bundle));
        }
    }

    /// For the first Create, whichever it is: it is kept for nobody after that.
    pub fn take_ahead(&self) -> Option<Ahead> {
        self.ahead.borrow_mut().take()
    }

    /// Nothing is done any more: a namespace of containerd whose last container this was is forgotten.
    pub fn leave_stores(&self) {
        self.stores
            .borrow()
            .values()
            .for_each(|store| store.leave());
    }

    /// The owner of a container.
    pub fn owner(&self, id: &str) -> Result<Rc<Owner>> {
        let owner = self.owners.borrow().get(id).cloned();
        owner.ok_or_else(|| Failure::not_found(format!("container {id}: not found")))
    }

    /// Creates a container; the host pid of its init.
    pub async fn create(self: &Rc<Self>, call: CreateCall) -> Result<i32> {
        if self.presence.borrow().ending {
            return Err(Failure::new(Code::UNAVAILABLE, "the shim is shutting down"));
        }
        let id = call.id.to_string();
        if self.owners.borrow().contains_key(&id) {
            return Err(Failure::new(
                Code::ALREADY_EXISTS,
                format!("container {id} exists already"),
            ));
        }
        self.presence.borrow_mut().wished = false;
        let owner = Owner::new(Rc::clone(self), &call)?;
        self.owners.borrow_mut().insert(id, Rc::clone(&owner));
        let created = owner.create(call).await;
        if created.is_err() {
            self.forget(owner.id());
        }
        created
    }

    /// The container is no more.
    pub fn forget(&self, id: &ContainerId) {
        self.owners.borrow_mut().remove(id.as_str());
        self.changed.notify_one();
    }

    /// Gives memory back in a moment: what a Create needs to read its documents, and the code of any request, is many
    /// times what a container that runs needs.
    pub fn settle(self: &Rc<Self>) {
        if self.settling.replace(true) {
            return;
        }
        let sandbox = Rc::clone(self);
        tokio::task::spawn_local(async move {
            sleep(SETTLED).await;
            sandbox.settling.set(false);
            sandbox.heap.trim();
            if let Err(errno) = code::release() {
                log::debug!("madvise(MADV_DONTNEED): {errno}");
            }
        });
    }

    /// From now on the exit of `pid` is told to its owner, also if it has come already.
    pub fn track(&self, pid: i32, tracked: Tracked, launching: Launching) {
        match self.children.claim(pid) {
            Some(exit) => tracked.exited(exit),
            None => {
                self.tracked.borrow_mut().insert(pid, tracked);
            }
        }
        drop(launching);
    }

    /// Reaps every child that has ended and tells their owners. Strangers (orphans of containers, hooks, loggers)
    /// are only reaped.
    pub fn reap(&self) {
        for exit in self.children.reap() {
            let tracked = self.tracked.borrow_mut().remove(&exit.pid);
            if let Some(tracked) = tracked {
                // It was told of from here, nobody needs to claim it.
                self.children.claim(exit.pid);
                tracked.exited(exit);
            }
        }
    }

    /// containerd wishes that the process ends. It does when nothing is left to serve; until then the wish is kept,
    /// because containerd may not say so again.
    pub fn wish_end(&self) {
        self.presence.borrow_mut().wished = true;
        self.changed.notify_one();
    }

    /// Whether the process may end now, or else when to ask again if nothing changes before.
    pub fn may_end(&self) -> std::result::Result<(), Option<Duration>> {
        let presence = self.presence.borrow();
        if !presence.wished || !self.owners.borrow().is_empty() || presence.unanswered > 0 {
            return Err(None);
        }
        let awaited = presence.silent.values().chain(&presence.probed);
        let awaited = awaited.map(|since| AWAITED.saturating_sub(since.elapsed()));
        let told = presence.told.values();
        let left = awaited.chain(told.map(|since| TOLD.saturating_sub(since.elapsed())));
        match left.max() {
            Some(left) if !left.is_zero() => Err(Some(left)),
            _ => Ok(()),
        }
    }

    /// No new container is taken from now on.
    pub fn begin_end(&self) {
        self.presence.borrow_mut().ending = true;
    }

    /// A connection was opened.
    pub fn connected(&self, connection: u64) {
        self.outbox.try_again_soon();
        self.presence
            .borrow_mut()
            .silent
            .insert(connection, Instant::now());
    }

    /// A request has begun to arrive on a connection; the guard is dropped when its answer is written.
    pub fn requested(self: &Rc<Self>, connection: u64) -> Unanswered {
        let mut presence = self.presence.borrow_mut();
        presence.silent.remove(&connection);
        presence.told.remove(&connection);
        presence.unanswered += 1;
        Unanswered(Rc::clone(self))
    }

    /// Somebody was told something, and goes on to ask for the next thing or closes the connection. ttrpc's client in
    /// Go may take an answer for lost where the end of the connection comes right behind it, and in a pod the Shutdown
    /// for one container comes beside the Delete of another.
    pub fn answered(&self, connection: u64) {
        self.presence
            .borrow_mut()
            .told
            .insert(connection, Instant::now());
    }

    /// A connection was closed.
    pub fn disconnected(&self, connection: u64) {
        self.presence.borrow_mut().told.remove(&connection);
        let silent = self.presence.borrow_mut().silent.remove(&connection);
        if silent.is_some() {
            self.probed();
        }
        self.changed.notify_one();
    }

    /// Somebody looked whether we serve, and may come with a container.
    pub fn probed(&self) {
        self.presence.borrow_mut().probed = Some(Instant::now());
    }

    /// Everything that a hang can be seen from, line by line.
    pub fn describe(&self) -> Vec<String> {
        let presence = self.presence.borrow();
        let mut lines = vec![format!(
            "sandbox {}/{}: {} requests unanswered, {} silent connections, end wished: {}, {} processes tracked",
            self.ctr_ns,
            self.group,
            presence.unanswered,
            presence.silent.len(),
            presence.wished,
            self.tracked.borrow().len()
        )];
        lines.extend(self.requests());
        lines.extend(self.outbox.describe());
        lines.extend(
            self.owners
                .borrow()
                .values()
                .flat_map(|owner| owner.describe()),
        );
        lines
    }

    /// Every request that is not answered, with what it waits for.
    fn requests(&self) -> Vec<String> {
        let owners = self.owners.borrow();
        let waiting: Vec<_> = owners.values().flat_map(|owner| owner.waiting()).collect();
        let told = |(number, asked): (u64, Asked)| {
            let of = match asked.exec.as_str() {
                "" => String::new(),
                exec => format!("exec {exec} of "),
            };
            let mut causes: Vec<_> = waiting
                .iter()
                .filter(|noted| noted.request == Some(number))
                .map(ToString::to_string)
                .collect();
            if causes.is_empty() {
                causes.push(match asked.method {
                    Method::Wait => "the exit of the process".to_owned(),
                    _ => "its turn".to_owned(),
                });
            }
            format!(
                "request {number}: {:?} of {of}container {} {} waits for {}",
                asked.method,
                asked.container,
                asked.since,
                causes.join(": ")
            )
        };
        // Who asks needs not be told that he does.
        let others = |(_, asked): &(u64, Asked)| asked.method != Method::Describe;
        self.pending
            .all()
            .into_iter()
            .filter(others)
            .map(told)
            .collect()
    }
}

impl Tracked {
    fn exited(self, exit: Exit) {
        match self.exec {
            None => self.owner.init_exited(exit),
            Some(exec) => self.owner.exec_exited(&exec, exit),
        }
    }
}

/// A request that is not answered yet.
pub struct Unanswered(Rc<Sandbox>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.presence.borrow_mut().unanswered -= 1;
        self.0.changed.notify_one();
    }
}

thread_local! {
    static CONNECTIONS: Cell<u64> = const { Cell::new(0) };
}

/// A number for a new connection.
pub fn next_connection() -> u64 {
    CONNECTIONS.with(|last| {
        last.set(last.get() + 1);
        last.get()
    })
}

/// Starts a logging program on the host.
fn launch(program: Program) -> rsrun_core::Result<Launched> {
    let text = |bytes: &[u8]| {
        CString::new(bytes)
            .map_err(|_| rsrun_core::Error::invalid("a logger's path or argument contains NUL"))
    };
    let path = text(program.path.as_os_str().as_bytes())?;
    let argv = program
        .args
        .iter()
        .map(|arg| text(arg.as_bytes()))
        .collect::<rsrun_core::Result<Vec<_>>>()?;
    let envp = program
        .env
        .iter()
        .map(|entry| text(entry.as_bytes()))
        .collect::<rsrun_core::Result<Vec<_>>>()?;
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null");
    let null = null.map_err(|e| rsrun_core::Error::invalid(format!("open /dev/null: {e}")))?;
    let standard = (0..3).map(|number| (std::os::fd::AsFd::as_fd(&null), number));
    let given = (3..)
        .zip(&program.fds)
        .map(|(number, fd)| (std::os::fd::AsFd::as_fd(fd), number));
    let fds: Vec<_> = standard.chain(given).collect();
    let call = || format!("execve({})", program.path.display());
    let pid = spawn::spawn(&spawn::Program {
        path: &path,
        argv: &argv,
        envp: &envp,
        fds: &fds,
        own_group: true,
    })
    .with(call)?;
    let pidfd = pidfd::pidfd_open(pid).with(|| format!("pidfd_open({pid})"))?;
    Ok(Launched { pidfd })
}
