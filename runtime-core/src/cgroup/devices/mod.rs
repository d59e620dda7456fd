//! Which devices a cgroup may use: one eBPF program, attached to its directory and replaced in place.

mod program;

use std::os::fd::AsFd;

use nix::errno::Errno;

pub use program::{Instruction, Program};

use super::Cgroup;
use crate::error::{Context, Error, Result};
use crate::sys::bpf;

impl Cgroup {
    /// Loads `program` and attaches it, in the place of what is attached. There is no moment without a
    /// filter: one program is exchanged at once; of several (others', or left from a crash) the old ones
    /// go after the new one holds.
    ///
    /// `Denied` without CAP_BPF and CAP_SYS_ADMIN, as in a user namespace.
    pub fn set_devices(&self, program: &Program) -> Result<()> {
        let code = program.code();
        let loaded = bpf::load_device_program(&code).map_err(|errno| {
            let call = format!("bpf(BPF_PROG_LOAD, {} instructions)", code.len());
            match errno {
                Errno::EPERM => Error::os(errno, call),
                _ => Error::os(errno, call).caused_by(bpf::why_not_loaded(&code)),
            }
        })?;
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
        bpf::attach_device_program(self.dir(), loaded.as_fd(), replaced).with(|| {
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
