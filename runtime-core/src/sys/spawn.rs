//! Starting a program of the host beside us: the serving process, a logger, a mount helper.
//!
//! With `posix_spawn`, whose child shares our memory until its execve: the heap does not exist in a forked
//! child (see `heap`), so `std::process::Command` can fail with EFAULT. Nothing here enters a container.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;

use super::{checked, fds};

/// A program to start.
#[derive(Debug)]
pub struct Program<'a> {
    /// Path of its file; may be `/proc/self/fd/N` of a descriptor that is closed on exec.
    pub path: &'a CStr,
    /// Its arguments, the name first.
    pub argv: &'a [CString],
    /// Its whole environment.
    pub envp: &'a [CString],
    /// Descriptors that it gets, with the numbers that they get there. All that is not named is gone
    /// if it is CLOEXEC.
    pub fds: &'a [(BorrowedFd<'a>, RawFd)],
    /// Becomes the leader of a process group of its own.
    pub own_group: bool,
}

/// Starts it with all signals at their defaults and none blocked; returns its pid. An error of its execve is
/// returned as well.
pub fn spawn(program: &Program<'_>) -> nix::Result<i32> {
    let lowest = program
        .fds
        .iter()
        .map(|(_, number)| number + 1)
        .max()
        .unwrap_or(0);
    // A source whose number is another's target would be overwritten before it is duplicated.
    let sources = program
        .fds
        .iter()
        .map(|(fd, number)| Ok((fds::duplicate_above(*fd, lowest)?, *number)))
        .collect::<nix::Result<Vec<(OwnedFd, RawFd)>>>()?;
    let argv = pointers(program.argv);
    let envp = pointers(program.envp);
    let mut actions = Actions::new()?;
    for (source, number) in &sources {
        actions.duplicate(source.as_raw_fd(), *number)?;
    }
    let attributes = Attributes::new(program.own_group)?;
    let mut pid = 0;
    // SAFETY: path, argv and envp are NUL-terminated, the two lists end with a null pointer, and all outlive the
    //         call, as do actions and attributes, both initialised; `pid` is a valid place for a pid.
    result(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.path.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            argv.as_ptr(),
            envp.as_ptr(),
        )
    })?;
    Ok(pid)
}

/// Marks every descriptor from `first` on as closed on exec: those that a careless caller left us.
pub fn close_on_exec_from(first: u32) -> nix::Result<()> {
    // SAFETY: only numbers are passed; no descriptor is closed now.
    checked(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })
    .map(drop)
}

/// Gives the process group of this process a core-scheduling cookie of its own, which children inherit
/// (`PR_SCHED_CORE`, Linux 5.14).
pub fn new_core_scheduling_cookie() -> nix::Result<()> {
    const SCOPE_PROCESS_GROUP: libc::c_ulong = 2;
    // SAFETY: only numbers are passed; pid 0 is this process.
    checked(
        unsafe {
            libc::prctl(
                libc::PR_SCHED_CORE,
                libc::PR_SCHED_CORE_CREATE,
                0,
                SCOPE_PROCESS_GROUP,
                0,
            )
        }
        .into(),
    )
    .map(drop)
}

fn pointers(texts: &[CString]) -> Vec<*mut libc::c_char> {
    texts
        .iter()
        .map(|text| text.as_ptr().cast_mut())
        .chain([ptr::null_mut()])
        .collect()
}

fn result(error: libc::c_int) -> nix::Result<()> {
    if error == 0 {
        Ok(())
    } else {
        Err(Errno::from_raw(error))
    }
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> nix::Result<Self> {
        // SAFETY: the type is plain data for which zeroes are valid; init fills it before any use.
        let mut actions = Self(unsafe { std::mem::zeroed() });
        // SAFETY: `actions.0` is a valid place for file actions.
        result(unsafe { libc::posix_spawn_file_actions_init(&raw mut actions.0) })?;
        Ok(actions)
    }

    fn duplicate(&mut self, from: RawFd, to: RawFd) -> nix::Result<()> {
        // SAFETY: `self.0` was initialised; only numbers are passed.
        result(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, from, to) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: `self.0` was initialised and is not used afterwards. (Where init failed, it is all zeroes,
        //         which destroy takes as empty.)
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new(own_group: bool) -> nix::Result<Self> {
        let mut flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        if own_group {
            flags |= libc::POSIX_SPAWN_SETPGROUP;
        }
        let flags = libc::c_short::try_from(flags).map_err(|_| Errno::EINVAL)?;
        // SAFETY: both types are plain data for which zeroes are valid; each is initialised before it is used.
        let (mut attributes, mut signals) =
            unsafe { (Self(std::mem::zeroed()), std::mem::zeroed()) };
        // SAFETY: the places are valid for the calls, which copy what they are given; process group 0 means
        //         a new one with the child's pid.
        unsafe {
            result(libc::posix_spawnattr_init(&raw mut attributes.0))?;
            libc::sigemptyset(&raw mut signals);
            result(libc::posix_spawnattr_setsigmask(
                &raw mut attributes.0,
                &raw const signals,
            ))?;
            libc::sigfillset(&raw mut signals);
            result(libc::posix_spawnattr_setsigdefault(
                &raw mut attributes.0,
                &raw const signals,
            ))?;
            result(libc::posix_spawnattr_setpgroup(&raw mut attributes.0, 0))?;
            result(libc::posix_spawnattr_setflags(&raw mut attributes.0, flags))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: `self.0` was initialised (or is all zeroes) and is not used afterwards.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_program_gets_the_named_descriptors_and_nothing_else() {
        let (mut ours, theirs) = std::io::pipe().unwrap();
        let script = c"echo through 7 >&7; ls /proc/self/fd | tr '\\n' ' ' >&7; trap >&7";
        let argv = [c"sh".to_owned(), c"-c".to_owned(), script.to_owned()];
        let program = Program {
            path: c"/bin/sh",
            argv: &argv,
            envp: &[c"PATH=/usr/bin:/bin".to_owned()],
            fds: &[(theirs.as_fd(), 7)],
            own_group: true,
        };
        let pid = spawn(&program).unwrap();
        drop(theirs);
        let mut said = String::new();
        ours.read_to_string(&mut said).unwrap();
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
        assert!(said.starts_with("through 7\n"), "{said}");
        let fds: Vec<&str> = said
            .lines()
            .nth(1)
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        assert!(fds.contains(&"7"), "{said}");
    }

    #[test]
    fn a_missing_program_is_an_error_of_the_call() {
        let program = Program {
            path: c"/nonexistent/program",
            argv: &[c"x".to_owned()],
            envp: &[],
            fds: &[],
            own_group: false,
        };
        assert_eq!(spawn(&program), Err(Errno::ENOENT));
    }
}
