//! A user namespace for id-mapped mounts: that of a process which lives for the purpose.

use std::os::fd::OwnedFd;

use super::drive::{Attendant, Setting, launch};
use super::open::Given;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::plan::{IdMaps, ProgramWords};
use crate::process::ProcessHandle;

/// One with these maps.
pub(crate) fn userns_with(maps: &IdMaps, setting: Setting<'_>) -> Result<OwnedFd> {
    struct Taker(Option<OwnedFd>);
    impl Attendant for Taker {
        fn adopted(&mut self, process: &ProcessHandle) -> Result<()> {
            let path = format!("{}/ns/user", process.pid());
            let file =
                crate::sys::procfs::open_link(&path).with(|| format!("open(/proc/{path})"))?;
            self.0 = Some(file);
            // Done: the process is put down as any launch that ends here.
            Err(Error::new(
                ErrorKind::Cancelled,
                "the user namespace is taken",
            ))
        }
    }
    let plan = crate::plan::userns_holder(maps);
    let mut taker = Taker(None);
    let inner = Setting {
        cgroup: None,
        ..setting
    };
    let nothing = ProgramWords {
        name: String::new(),
        candidates: Vec::new(),
    };
    let result = launch(&plan, &nothing, &Given::default(), inner, &mut taker);
    match (taker.0, result) {
        (Some(namespace), _) => Ok(namespace),
        (None, Err(error)) => Err(error.during("make a user namespace for an id-mapped mount")),
        (None, Ok(_)) => Err(Error::new(
            ErrorKind::Internal,
            "the user namespace's holder went on",
        )),
    }
}
