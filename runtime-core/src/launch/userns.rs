//! What only a process can hold or see: a user namespace for id-mapped mounts, the maps of one that has a name and
//! nobody in it. Each process here lives for that purpose.

use std::os::fd::OwnedFd;
use std::path::Path;

use super::drive::{Attendant, Setting, launch};
use super::open::Given;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::plan::{IdMaps, Plan, ProgramWords, userns_holder, userns_visitor};
use crate::process::ProcessHandle;
use crate::sys::procfs;

/// One with these maps.
pub(crate) fn userns_with(maps: &IdMaps, setting: Setting<'_>) -> Result<OwnedFd> {
    let take = |process: &ProcessHandle| {
        let path = format!("{}/ns/user", process.pid());
        procfs::open_link(&path).with(|| format!("open(/proc/{path})"))
    };
    taken_of(&userns_holder(maps), setting, take)
        .with(|| "make a user namespace for an id-mapped mount")
}

/// The maps of the one whose file is at `path`.
pub(crate) fn maps_of_userns(path: &Path, setting: Setting<'_>) -> Result<IdMaps> {
    taken_of(&userns_visitor(path), setting, |process| {
        maps_of_process(process.pid())
    })
    .with(|| format!("read the id maps of {}", path.display()))
}

/// The maps of the user namespace that a process is in.
pub(crate) fn maps_of_process(pid: i32) -> Result<IdMaps> {
    let ranges = |file: &str| {
        let path = format!("{pid}/{file}");
        let text = procfs::read_all(&path).with(|| format!("read(/proc/{path})"))?;
        let ranges = text.lines().map(crate::plan::IdRange::parse);
        ranges.collect::<Option<_>>().ok_or_else(|| {
            let text = format!("/proc/{path} is no id map");
            Error::new(ErrorKind::Internal, text)
        })
    };
    Ok(IdMaps {
        uid: ranges("uid_map")?,
        gid: ranges("gid_map")?,
    })
}

/// Takes something of a process while it waits for its adoption, and puts it down.
fn taken_of<T>(
    plan: &Plan,
    setting: Setting<'_>,
    take: impl Fn(&ProcessHandle) -> Result<T>,
) -> Result<T> {
    struct Taker<F, T> {
        take: F,
        taken: Option<T>,
    }
    impl<T, F: Fn(&ProcessHandle) -> Result<T>> Attendant for Taker<F, T> {
        fn adopted(&mut self, process: &ProcessHandle) -> Result<()> {
            self.taken = Some((self.take)(process)?);
            // Done: the process is put down as any launch that ends here.
            Err(Error::new(
                ErrorKind::Cancelled,
                "what the process was made for is taken",
            ))
        }
    }
    let mut taker = Taker { take, taken: None };
    let inner = Setting {
        cgroup: None,
        ..setting
    };
    let nothing = ProgramWords {
        name: String::new(),
        candidates: Vec::new(),
    };
    let result = launch(plan, &nothing, &Given::default(), inner, &mut taker);
    match (taker.taken, result) {
        (Some(taken), _) => Ok(taken),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(Error::new(
            ErrorKind::Internal,
            "a process that only waits went on",
        )),
    }
}
