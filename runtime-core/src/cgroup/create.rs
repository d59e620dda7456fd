//! How a container's cgroup is made: each level of its path, with all controllers that can be had.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::file::{self, Buffer};
use super::{Cgroup, Controllers, Events, Mount, open_below, path};
use crate::error::{Context, Error, ErrorKind, Result, errno_text};

impl Cgroup {
    /// Makes the cgroup at `path` (from [`resolve`](super::resolve)) and those above it.
    ///
    /// Every level above it gives all its controllers to its children, as runc does, so that later
    /// updates may use what create did not. One that can't be given (the level has processes of its
    /// own, or is threaded) is noted and reported when a limit needs it.
    ///
    /// A cgroup that is there already is used when it is empty; `AlreadyExists` with processes in it,
    /// `Unsupported` when it is frozen (the init would never get to run) or threaded. On failure what
    /// was made is removed.
    pub fn create(mount: &Mount, path: &str) -> Result<Self> {
        let mut made = Made::default();
        let created = descend(mount, path, &mut made).and_then(|bottom| {
            let mut cgroup = Self::having(mount, path.to_owned(), bottom.dir, bottom.has)?;
            for (name, reason) in bottom.refused {
                if !cgroup.controllers.has(&name) {
                    cgroup.controllers.refuse(&name, reason);
                }
            }
            cgroup.refuse_unusable()?;
            Ok(cgroup)
        });
        if created.is_err() {
            made.undo();
        }
        created
    }

    fn refuse_unusable(&self) -> Result<()> {
        let now = Events::open(self)?.now()?;
        if now.populated {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("container's cgroup is not empty: {}", self.path),
            ));
        }
        // Of a new cgroup it says whether one above it is frozen.
        if now.frozen {
            return Err(Error::unsupported(
                "create in a frozen cgroup",
                format!("container's cgroup unexpectedly frozen: {}", self.path),
            ));
        }
        let kind = Buffer::default()
            .read(self.dir(), "cgroup.type")?
            .map(|kind| kind.trim().to_owned());
        match kind.as_deref() {
            Some("domain") | None => Ok(()),
            Some(kind) => Err(Error::unsupported(
                "threaded cgroups",
                format!("cgroup {} is in {kind} mode", self.path),
            )),
        }
    }
}

type Refused = Vec<(String, String)>;

/// The last level of a path.
struct Bottom {
    dir: OwnedFd,
    has: Controllers,
    refused: Refused,
}

fn descend(mount: &Mount, path: &str, made: &mut Made) -> Result<Bottom> {
    let mut refused = Refused::new();
    let mut buffer = Buffer::default();
    let mut walked = String::new();
    let mut current = open_below(mount.dir(), ".").with(|| "open the root of cgroup v2")?;
    let mut has = mount.controllers().clone();
    for part in path::components(path)? {
        if !mount.controllers().is_empty() {
            has = give_controllers(current.as_fd(), &walked, &has, &mut buffer, &mut refused)?;
        }
        walked = format!("{walked}/{part}");
        // Before it is made: what can't be noted could not be undone.
        let parent = current
            .try_clone()
            .map_err(|error| Error::new(ErrorKind::Exhausted, "dup(cgroup)").caused_by(error))?;
        match mkdirat(&current, part, Mode::from_bits_truncate(0o755)) {
            Ok(()) => made.0.push((parent, part.to_owned())),
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(Error::os(errno, format!("mkdir cgroup {walked}"))),
        }
        current = open_below(current.as_fd(), part).with(|| format!("open cgroup {walked}"))?;
    }
    Ok(Bottom {
        dir: current,
        has,
        refused,
    })
}

/// Enables for the children of `dir` every controller that it has; gives those that are enabled then, which is what a
/// child has. What it `may_have` is what its own parent gives; a threaded one has less.
fn give_controllers(
    dir: BorrowedFd<'_>,
    path: &str,
    may_have: &Controllers,
    buffer: &mut Buffer,
    refused: &mut Refused,
) -> Result<Controllers> {
    const FILE: &str = "cgroup.subtree_control";
    let given = Controllers::parse(buffer.read(dir, FILE)?.unwrap_or_default());
    if may_have.iter().all(|name| given.has(name)) {
        return Ok(given);
    }
    let has = Controllers::parse(buffer.read(dir, "cgroup.controllers")?.unwrap_or_default());
    let missing: Vec<_> = has.iter().filter(|name| !given.has(name)).collect();
    if missing.is_empty() {
        return Ok(given);
    }
    let at = if path.is_empty() { "/" } else { path };
    // A cgroup with processes can't give most controllers (EBUSY); cpu and pids it could, and would
    // become the root of a threaded tree by it, in which no container can be. The root of all, which has
    // no cgroup.type, may do both.
    let is_root = buffer.read(dir, "cgroup.type")?.is_none();
    if !is_root
        && buffer
            .read(dir, "cgroup.procs")?
            .is_some_and(|pids| !pids.is_empty())
    {
        let reason =
            format!("cgroup {at} has processes of its own, so it gives none to those below");
        refused.extend(
            missing
                .iter()
                .map(|name| ((*name).to_owned(), reason.clone())),
        );
        return Ok(given);
    }
    // One write for all when it works: each one that changes something waits for an RCU grace period.
    if file::write(dir, FILE, &format!("+{}", missing.join(" +"))).is_ok() {
        return Ok(has);
    }
    for name in missing {
        if let Err(errno) = file::write(dir, FILE, &format!("+{name}")) {
            let reason = format!("write +{name} to {FILE} of {at}: {}", errno_text(errno));
            refused.push((name.to_owned(), reason));
        }
    }
    let given = buffer.read(dir, FILE)?.unwrap_or_default();
    Ok(Controllers::parse(given))
}

/// What was made, so that a failure leaves nothing: parent and name of each level, outermost first.
#[derive(Default)]
struct Made(Vec<(OwnedFd, String)>);

impl Made {
    /// A level that another create has begun to use meanwhile (EBUSY, ENOTEMPTY) stays.
    fn undo(&mut self) {
        while let Some((parent, name)) = self.0.pop() {
            if let Err(errno) = unlinkat(&parent, name.as_str(), UnlinkatFlags::RemoveDir) {
                log::debug!("rmdir cgroup {name} after a failed create: {errno}");
                return;
            }
        }
    }
}
