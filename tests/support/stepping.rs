//! How is a program, with all that it starts, stopped before each system call that takes a path?
//!
//! A seccomp filter that it starts with sends those calls to a listener and lets them wait there. So whoever holds
//! the listener may change the file system at exactly one place of the program's course and then let it go on. The
//! calls of one thread have an order that does not change from run to run: a thread is named by the order in which
//! threads show up, and a call by its number among those of its thread.
#![allow(unsafe_code)]
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::cli::sockets::{Notice, answer, let_go, next_notice};

/// A call that a program makes to say that it runs and may be looked at: `pause`. It returns at once.
pub const LOOK_AT_ME: i64 = libc::SYS_pause;

/// Every call that takes a path, and which of its arguments is the path that it acts on.
const TAKE_PATHS: [(i64, Option<usize>); 53] = [
    (libc::SYS_open, Some(0)),
    (libc::SYS_creat, Some(0)),
    (libc::SYS_openat, Some(1)),
    (libc::SYS_openat2, Some(1)),
    (libc::SYS_stat, Some(0)),
    (libc::SYS_lstat, Some(0)),
    (libc::SYS_newfstatat, Some(1)),
    (libc::SYS_statx, Some(1)),
    (libc::SYS_statfs, Some(0)),
    (libc::SYS_access, Some(0)),
    (libc::SYS_faccessat, Some(1)),
    (libc::SYS_faccessat2, Some(1)),
    (libc::SYS_readlink, Some(0)),
    (libc::SYS_readlinkat, Some(1)),
    (libc::SYS_mkdir, Some(0)),
    (libc::SYS_mkdirat, Some(1)),
    (libc::SYS_rmdir, Some(0)),
    (libc::SYS_unlink, Some(0)),
    (libc::SYS_unlinkat, Some(1)),
    (libc::SYS_mknod, Some(0)),
    (libc::SYS_mknodat, Some(1)),
    (libc::SYS_symlink, Some(1)),
    (libc::SYS_symlinkat, Some(2)),
    (libc::SYS_link, Some(1)),
    (libc::SYS_linkat, Some(3)),
    (libc::SYS_rename, Some(1)),
    (libc::SYS_renameat, Some(3)),
    (libc::SYS_renameat2, Some(3)),
    (libc::SYS_chmod, Some(0)),
    (libc::SYS_fchmodat, Some(1)),
    (libc::SYS_chown, Some(0)),
    (libc::SYS_lchown, Some(0)),
    (libc::SYS_fchownat, Some(1)),
    (libc::SYS_truncate, Some(0)),
    (libc::SYS_utimensat, Some(1)),
    (libc::SYS_setxattr, Some(0)),
    (libc::SYS_lsetxattr, Some(0)),
    (libc::SYS_getxattr, Some(0)),
    (libc::SYS_lgetxattr, Some(0)),
    (libc::SYS_name_to_handle_at, Some(1)),
    (libc::SYS_mount, Some(1)),
    (libc::SYS_umount2, Some(0)),
    (libc::SYS_open_tree, Some(1)),
    (libc::SYS_move_mount, Some(3)),
    (libc::SYS_mount_setattr, Some(1)),
    (libc::SYS_pivot_root, Some(0)),
    (libc::SYS_chroot, Some(0)),
    (libc::SYS_chdir, Some(0)),
    (libc::SYS_fchdir, None),
    (libc::SYS_connect, None),
    (libc::SYS_execve, Some(0)),
    (libc::SYS_execveat, Some(1)),
    (LOOK_AT_ME, None),
];

/// Calls without an effect that another thread or a later call could see, that cannot fail, or that only wait for another
/// thread of the program. [`Calls::All`] leaves them out.
const WITHOUT_EFFECT: [i64; 31] = [
    libc::SYS_futex,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrandom,
    libc::SYS_arch_prctl,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_sched_getaffinity,
    libc::SYS_umask,
    libc::SYS_uname,
];

/// Which calls are stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Calls {
    /// Those that take a path.
    #[default]
    OnPaths,
    /// All that have an effect or can fail.
    All,
}

/// What becomes of a call that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is made.
    LetGo,
    /// It is not made, and fails with this errno.
    Fail(i32),
}

/// One call of a program's course.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The thread, by the order in which they show up.
    pub thread: usize,
    /// The call, by its number among those of the thread.
    pub call: usize,
}

/// A call that waits.
#[derive(Debug)]
pub struct Stop {
    /// Where in the course.
    pub place: Place,
    /// Who waits, by its number here.
    pub tid: u32,
    /// Which call.
    pub nr: i64,
    args: [u64; 6],
}

impl Stop {
    /// The process that waits.
    pub fn process(&self) -> Option<Pid> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.tid)).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("Tgid:"))?;
        line.trim().parse().ok().map(Pid::from_raw)
    }

    /// What the descriptor in its first argument is, as /proc names it; empty where that is none.
    pub fn subject(&self) -> String {
        let link = format!("/proc/{}/fd/{}", self.tid, self.args[0]);
        let target = std::fs::read_link(link).unwrap_or_default();
        target.to_string_lossy().into_owned()
    }

    /// The path that it acts on, as far as it can be read; empty for a call on a descriptor.
    pub fn path(&self) -> String {
        let position = TAKE_PATHS.iter().find(|(nr, _)| *nr == self.nr);
        let Some((_, Some(index))) = position else {
            return String::new();
        };
        let Ok(memory) = File::open(format!("/proc/{}/mem", self.tid)) else {
            return String::new();
        };
        let (mut text, mut byte) = (Vec::new(), [0u8]);
        while text.len() < 4096 {
            let at = self.args[*index] + text.len() as u64;
            match memory.read_at(&mut byte, at) {
                Ok(1) if byte[0] != 0 => text.push(byte[0]),
                _ => break,
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

enum Heard {
    Calls(Vec<usize>),
    Gone(usize),
    Over,
    Nothing,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Exit code, or 128 + signal.
    Code(i32),
    /// It did not within the time, or what it started did not.
    Hangs,
}

/// The threads seen in one course; commands that follow each other may share it.
#[derive(Debug, Default)]
pub struct Course {
    calls: Calls,
    threads: Vec<(u32, usize)>,
    /// Of the command, and of those before it that left something behind.
    listeners: Vec<OwnedFd>,
}

impl Course {
    /// A course in which these calls are stopped.
    pub fn of(calls: Calls) -> Self {
        Self {
            calls,
            ..Self::default()
        }
    }

    /// Counts threads and their calls from here on anew.
    pub fn count_anew(&mut self) {
        self.threads.clear();
    }

    /// Attends to what the commands have left running, until `is_over` says so or nothing of it is left.
    pub fn attend_until(
        &mut self,
        is_over: &dyn Fn() -> bool,
        before: &mut dyn FnMut(&mut Self),
        at_stop: &mut dyn FnMut(&Stop) -> Verdict,
    ) -> io::Result<()> {
        while !is_over() && !self.listeners.is_empty() {
            match self.poll(None, Duration::MAX)? {
                Heard::Calls(ready) => {
                    before(self);
                    for index in ready {
                        self.attend(index, at_stop);
                    }
                }
                Heard::Gone(index) => drop(self.listeners.remove(index)),
                Heard::Over | Heard::Nothing => {}
            }
        }
        Ok(())
    }

    /// Runs `command` with its calls stopped; `at_stop` is called while one waits. Ends with the
    /// command or, where that is asked for, with all that it started.
    pub fn run(
        &mut self,
        command: Command,
        limit: Duration,
        wait_for: WaitFor,
        at_stop: &mut dyn FnMut(&Stop) -> Verdict,
    ) -> io::Result<End> {
        let deadline = Instant::now() + limit;
        let (mut started, listener) = Started::begin(command, self.calls)?;
        self.listeners.push(listener);
        let mut code = None;
        loop {
            match code {
                // What a failed command has left is not waited for: it may be a container that stands at its gate.
                Some(0) if wait_for == WaitFor::Everything && !self.listeners.is_empty() => {
                    self.reap()
                }
                Some(code) => return Ok(End::Code(code)),
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.kill_all();
                return Ok(End::Hangs);
            }
            let over = code.is_none().then_some(&started.over);
            match self.poll(over, left)? {
                Heard::Calls(ready) => ready
                    .into_iter()
                    .for_each(|index| self.attend(index, at_stop)),
                Heard::Gone(index) => drop(self.listeners.remove(index)),
                Heard::Over => code = Some(started.code()?),
                Heard::Nothing => {}
            }
        }
    }

    /// Which listeners have a call, or one that has nobody left, or that the command has ended.
    fn poll(&self, over: Option<&OwnedFd>, limit: Duration) -> io::Result<Heard> {
        let all = self.listeners.iter().chain(over);
        let mut fds: Vec<PollFd<'_>> = all
            .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
            .collect();
        // An end that we have to wait for ourselves wakes nobody.
        let limit = if over.is_none() {
            limit.min(Duration::from_millis(5))
        } else {
            limit
        };
        match poll(
            &mut fds,
            PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let events: Vec<PollFlags> = fds.iter().filter_map(PollFd::revents).collect();
        let listeners = &events[..self.listeners.len()];
        let calls: Vec<usize> = (0..listeners.len())
            .filter(|i| listeners[*i].contains(PollFlags::POLLIN))
            .collect();
        if !calls.is_empty() {
            return Ok(Heard::Calls(calls));
        }
        if let Some(gone) = listeners.iter().position(|events| !events.is_empty()) {
            return Ok(Heard::Gone(gone));
        }
        let is_over = over.is_some() && events.last().is_some_and(|events| !events.is_empty());
        Ok(if is_over { Heard::Over } else { Heard::Nothing })
    }

    fn attend(&mut self, index: usize, at_stop: &mut dyn FnMut(&Stop) -> Verdict) {
        let listener = self.listeners[index].as_fd();
        let Some(notice) = next_notice(listener, Duration::ZERO) else {
            return;
        };
        let nr = i64::from(notice.nr);
        let place = place_of(&mut self.threads, &notice);
        let verdict = at_stop(&Stop {
            place,
            tid: notice.tid,
            nr,
            args: notice.args,
        });
        // It may have been killed meanwhile: nobody waits for the answer then.
        let _ = match verdict {
            Verdict::Fail(errno) => answer(listener, notice, errno),
            Verdict::LetGo if nr == LOOK_AT_ME => answer(listener, notice, 0),
            Verdict::LetGo => let_go(listener, notice),
        };
    }

    fn reap(&self) {
        for (tid, _) in &self.threads {
            let _ = waitpid(pid_of(*tid), Some(WaitPidFlag::WNOHANG));
        }
    }

    /// Ends every thread that was seen here; the newest first, so that none is waited for.
    fn kill_all(&self) {
        for (tid, _) in self.threads.iter().rev() {
            let _ = kill(pid_of(*tid), Signal::SIGKILL);
        }
    }
}

fn pid_of(tid: u32) -> Pid {
    Pid::from_raw(i32::try_from(tid).unwrap_or(i32::MAX))
}

fn place_of(threads: &mut Vec<(u32, usize)>, notice: &Notice) -> Place {
    let thread = match threads.iter().position(|(tid, _)| *tid == notice.tid) {
        Some(thread) => thread,
        None => {
            threads.push((notice.tid, 0));
            threads.len() - 1
        }
    };
    let call = threads[thread].1;
    threads[thread].1 += 1;
    Place { thread, call }
}

/// What [`Course::run`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// The command itself; what it started may go on and is stopped by the next run of the course.
    Command,
    /// The command and, if it goes well, all that it and the commands before it started.
    Everything,
}

/// A command under the filter, in a thread of its own: `spawn` returns only after execve, which is stopped too.
struct Started {
    /// Readable when it has ended.
    over: OwnedFd,
    thread: Option<JoinHandle<io::Result<i32>>>,
}

impl Started {
    fn begin(mut command: Command, calls: Calls) -> io::Result<(Self, OwnedFd)> {
        let pair = || {
            socketpair(
                AddressFamily::Unix,
                SockType::SeqPacket,
                None,
                SockFlag::SOCK_CLOEXEC,
            )
        };
        let (ours, theirs) = pair()?;
        let (over, told) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let sender = theirs.as_raw_fd();
        // SAFETY: between fork and exec it makes system calls and one small allocation by sendmsg's buffer, which
        //         glibc's allocator allows after a fork.
        unsafe { command.pre_exec(move || send_listener(sender, calls)) };
        let thread = std::thread::spawn(move || {
            let status = command.status();
            // Held until now: they are the child's between fork and exec.
            drop((theirs, told));
            status.map(|s| s.code().unwrap_or_else(|| 128 + s.signal().unwrap_or(0)))
        });
        let listener = receive_listener(ours.as_fd())?;
        Ok((
            Self {
                over,
                thread: Some(thread),
            },
            listener,
        ))
    }

    fn code(&mut self) -> io::Result<i32> {
        let ended = self.thread.take().map(JoinHandle::join);
        ended
            .unwrap_or(Ok(Ok(0)))
            .map_err(|_| io::Error::other("the starting thread panicked"))?
    }
}

fn send_listener(socket: RawFd, calls: Calls) -> io::Result<()> {
    let listener = install(calls, socket)?;
    let fds = [listener.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(
        socket,
        &[IoSlice::new(b"l")],
        &message,
        MsgFlags::empty(),
        None,
    )?;
    Ok(())
}

fn receive_listener(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut buffer = [0u8; 1];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control
            && let Some(fd) = numbers.first()
        {
            // SAFETY: the kernel has just put it into our table for this message; nobody else knows it.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    Err(io::Error::other(
        "the program did not start under the filter",
    ))
}

/// Loads the filter into this process and gives its listener; what is sent over `socket` never stops.
fn install(calls: Calls, socket: RawFd) -> io::Result<OwnedFd> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const MOST: usize = TAKE_PATHS.len() + WITHOUT_EFFECT.len() + 8;
    // Offsets of seccomp_data: the number, and the low word of the first argument.
    const NR: u32 = 0;
    const FIRST: u32 = 16;
    let line = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let (listed, otherwise) = match calls {
        Calls::OnPaths => (libc::SECCOMP_RET_USER_NOTIF, libc::SECCOMP_RET_ALLOW),
        Calls::All => (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_USER_NOTIF),
    };
    let numbers = TAKE_PATHS.iter().map(|(nr, _)| *nr);
    let numbers = numbers.filter(|_| calls == Calls::OnPaths);
    let quiet = WITHOUT_EFFECT.iter().copied();
    let numbers = numbers.chain(quiet.filter(|_| calls == Calls::All));
    // No allocation: this is between fork and exec.
    let mut filter = [line(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW); MOST];
    let head = [
        line(LOAD, 0, 0, NR),
        line(EQUAL, 0, 3, libc::SYS_sendmsg as u32),
        line(LOAD, 0, 0, FIRST),
        line(EQUAL, 0, 1, socket as u32),
        line(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        line(LOAD, 0, 0, NR),
    ];
    filter[..head.len()].copy_from_slice(&head);
    let mut length = head.len();
    let count = numbers.clone().count();
    for (index, nr) in numbers.enumerate() {
        // Over the rest of the list and the line for all others.
        filter[length] = line(EQUAL, (count - index) as u8, 0, nr as u32);
        length += 1;
    }
    filter[length] = line(RETURN, 0, 0, otherwise);
    filter[length + 1] = line(RETURN, 0, 0, listed);
    let program = libc::sock_fprog {
        len: (length + 2) as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: `program` and the filter that it points to outlive the call; the kernel copies both.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    match fd {
        // SAFETY: the kernel has just made it for us.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
