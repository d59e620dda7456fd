//! Which devices a cgroup may use: one eBPF program, attached to its directory and replaced in place.

mod program;

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

pub use program::{Instruction, Program};

use super::Cgroup;
use crate::error::{Context, Error, Result};
use crate::sys::bpf;

/// A program that the kernel has verified and translated, to be attached to any number of cgroups.
#[derive(Debug)]
pub struct Filter {
    program: OwnedFd,
}

impl Program {
    /// Loads it. This is what takes the time (0.15 ms for the usual list; attaching takes 0.01), so a
    /// create does it while the init makes its mounts.
    ///
    /// `Denied` without CAP_BPF and CAP_SYS_ADMIN, as in a user namespace.
    pub fn load(&self) -> Result<Filter> {
        let code = self.code();
        match bpf::load_device_program(&code) {
            Ok(program) => Ok(Filter { program }),
            Err(errno) => {
                let error = Error::os(
                    errno,
                    format!("bpf(BPF_PROG_LOAD, {} instructions)", code.len()),
                );
                Err(match errno {
                    Errno::EPERM => error,
                    _ => error.caused_by(bpf::why_not_loaded(&code)),
                })
            }
        }
    }
}

impl Cgroup {
    /// Attaches `filter` in the place of what is attached. There is no moment without one: one program
    /// is exchanged at once; of several (others', or left from a crash) the old ones go after the new
    /// one holds.
    pub fn attach_devices(&self, filter: &Filter) -> Result<()> {
        let mut attached = Vec::new();
        for id in self.device_programs()? {
            match bpf::program_by_id(id) {
                Ok(old) => attached.push(old),
                // Detached since it was listed.
                Err(Errno::ENOENT) => {}
                Err(errno) => {
                    return Err(errno).with(|| format!("bpf(BPF_PROG_GET_FD_BY_ID, {id})"));
                }
            }
        }
        let replaced = match attached.as_slice() {
            [old] => Some(old.as_fd()),
            _ => None,
        };
        bpf::attach_device_program(self.dir(), filter.program.as_fd(), replaced).with(|| {
            format!(
                "bpf(BPF_PROG_ATTACH, BPF_CGROUP_DEVICE) to cgroup {}",
                self.path()
            )
        })?;
        if replaced.is_none() {
            for old in attached {
                match bpf::detach_device_program(self.dir(), old.as_fd()) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(errno) => {
                        return Err(Error::os(errno, "bpf(BPF_PROG_DETACH, BPF_CGROUP_DEVICE)"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Loads and attaches.
    pub fn set_devices(&self, program: &Program) -> Result<()> {
        self.attach_devices(&program.load()?)
    }

    /// Ids of the device programs attached to it, oldest first; those above it are not among them.
    pub fn device_programs(&self) -> Result<Vec<u32>> {
        bpf::device_programs(self.dir()).with(|| {
            format!(
                "bpf(BPF_PROG_QUERY, BPF_CGROUP_DEVICE) of cgroup {}",
                self.path()
            )
        })
    }
}
