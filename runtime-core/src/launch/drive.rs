//! Drives one launch: birth, conversation, and the verdict whether the program runs.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, send};
use rsrun_init::step::Wake;

use super::ahead::Ahead;
use super::birth::{Born, bear, wake_pair};
use super::conversation::{Conversation, Due};
use super::open::{Given, open_all};
use super::userns::userns_with;
use super::{adopt, placement, report};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::plan::{Plan, ProgramWords, step_words};
use crate::process::{Cancel, Children, Exit, Launching, ProcessHandle};
use crate::sys::arena::SharedPage;
use crate::sys::birth::{Elsewhere, Ending};
use crate::sys::pidfd::{pidfd_getfd, pidfd_open};
use crate::sys::procfs::Stat;

/// After this long a step is told to who asks what a launch is at, and looked at again.
const SLOW: Duration = Duration::from_millis(250);

/// How often the page is looked at while a seccomp listener is due.
const LISTENER_PERIOD: Duration = Duration::from_micros(50);

/// Where a launch happens.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Where its exit will be found.
    pub children: &'a Arc<Children>,
    /// Gives it up.
    pub cancel: &'a Cancel,
    /// The process is killed past this; the time of hooks counts too.
    pub deadline: Instant,
    /// The cgroup it is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// A thread that was begun ahead.
    pub ahead: Option<&'a Ahead>,
}

/// What the caller does at the turns of a conversation.
pub trait Attendant {
    /// It is being cloned, on another thread: what nobody waits for until later.
    fn at_birth(&mut self) -> Result<()> {
        Ok(())
    }
    /// Maps and limits are written; the process has not done anything visible yet.
    fn adopted(&mut self, _process: &ProcessHandle) -> Result<()> {
        Ok(())
    }
    /// It goes on by itself; the next turn comes after this returns.
    fn meanwhile(&mut self, _process: &ProcessHandle) -> Result<()> {
        Ok(())
    }
    /// Its namespaces and mounts stand, its root is not changed yet.
    fn hooks_due(&mut self, _process: &ProcessHandle) -> Result<()> {
        Ok(())
    }
    /// Nothing but the gate, or the program, is left.
    fn ready(&mut self, _process: &ProcessHandle) -> Result<()> {
        Ok(())
    }
    /// Does what `ready` does before the process is there, and says whether it has: the process will not wait then. It is asked
    /// where nothing else is to come, after `meanwhile`.
    fn ready_ahead(&mut self, _process: &ProcessHandle) -> Result<bool> {
        Ok(false)
    }
    /// Its seccomp profile has a listener.
    fn listener(&mut self, _process: &ProcessHandle, _listener: OwnedFd) -> Result<()> {
        Ok(())
    }
}

/// An attendant who does nothing.
#[derive(Debug)]
pub struct Nobody;
impl Attendant for Nobody {}

/// A process that stands at the gate, or runs its program.
#[derive(Debug)]
pub struct Launched {
    /// The process.
    pub process: ProcessHandle,
    /// The master of its terminal.
    pub console: Option<OwnedFd>,
    /// Keeps an early exit until the process has been registered.
    pub launching: Launching,
}

/// Launches `plan`. On failure the process is gone and reaped.
pub fn launch(
    plan: &Plan,
    program: &ProgramWords,
    given: &Given<'_>,
    setting: Setting<'_>,
    attendant: &mut dyn Attendant,
) -> Result<Launched> {
    let launching = setting.children.launching();
    let born = attempt(plan, program, given, setting, None, attendant);
    let standing = match (born, setting.cgroup) {
        (Err(Fallen { unborn: true, .. }), Some(cgroup)) if !setting.cancel.is_triggered() => {
            let plan = placement::after_birth(plan);
            let here = Setting {
                cgroup: None,
                ..setting
            };
            attempt(&plan, program, given, here, Some(cgroup), attendant)
        }
        (born, _) => born,
    }
    .map_err(|fallen| fallen.error)?;
    Ok(Launched {
        process: standing.process,
        console: standing.console,
        launching,
    })
}

/// What one try has come to.
struct Standing {
    process: ProcessHandle,
    console: Option<OwnedFd>,
}

/// A launch that failed, and whether its process was never born or killed before it did anything.
pub(super) struct Fallen {
    pub error: Error,
    pub unborn: bool,
}

impl From<Error> for Fallen {
    fn from(error: Error) -> Self {
        let unborn = false;
        Self { error, unborn }
    }
}

/// One try. `place` is the cgroup to move the process to; it is born in that of `setting` otherwise.
fn attempt(
    plan: &Plan,
    program: &ProgramWords,
    given: &Given<'_>,
    setting: Setting<'_>,
    place: Option<BorrowedFd<'_>>,
    attendant: &mut dyn Attendant,
) -> std::result::Result<Standing, Fallen> {
    let held = open_all(plan, given, &|maps| userns_with(maps, setting))?;
    let page = SharedPage::new().with(|| "mmap(MAP_SHARED)")?;
    let (ours, theirs) = wake_pair()?;
    let Born {
        process,
        ending,
        beside,
    } = bear(plan, &held, &page, theirs, setting, attendant)?;
    drop(held);
    let mut drive = Drive {
        plan,
        program,
        page: &page,
        wake: ours,
        setting,
        place,
        first: process.pid(),
        processor: ending.processor(),
        process,
        console: None,
    };
    match beside.and_then(|()| drive.converse(ending, attendant)) {
        Ok(()) => {
            if log::log_enabled!(log::Level::Debug) {
                report::tell_times(plan, &page, drive.process.pid());
            }
            Ok(Standing {
                process: drive.process,
                console: drive.console,
            })
        }
        Err(error) => {
            drive.put_down();
            let unborn = page.times[0].load(Ordering::Acquire) == 0;
            Err(Fallen { error, unborn })
        }
    }
}

struct Drive<'a> {
    plan: &'a Plan,
    program: &'a ProgramWords,
    page: &'a SharedPage,
    wake: OwnedFd,
    setting: Setting<'a>,
    /// The cgroup that it is moved to when it is adopted.
    place: Option<BorrowedFd<'a>>,
    /// Pid of the process first cloned; another one's after `Step::Reborn`.
    first: i32,
    /// Where it has begun to run.
    processor: usize,
    process: ProcessHandle,
    console: Option<OwnedFd>,
}

enum Heard {
    Byte(u8, Option<OwnedFd>),
    End,
}

impl Drive<'_> {
    fn converse(&mut self, ending: Ending<'_>, attendant: &mut dyn Attendant) -> Result<()> {
        let mut conversation = Conversation::of(&self.plan.steps);
        let ends_with_ready = conversation.ends_with_ready();
        if !conversation.begins_with_adoption() {
            self.meanwhile(&mut conversation, attendant)?;
        }
        // It does what can be done later, and while it has the child's socket nobody hears its end.
        drop(ending);
        let mut elsewhere = None;
        loop {
            if elsewhere.is_none() && conversation.is_over() {
                // It does not sleep when it wakes us any more.
                elsewhere = Elsewhere::than(self.processor);
            }
            match self.listen()? {
                Heard::End => {
                    return if ends_with_ready {
                        Err(self.failure())
                    } else {
                        self.verdict()
                    };
                }
                Heard::Byte(byte, fd) => {
                    self.follow_rebirth()?;
                    let Some(due) = conversation.take(byte) else {
                        return Err(Error::new(
                            ErrorKind::Internal,
                            format!("wake {byte} came out of turn"),
                        ));
                    };
                    self.attend(due, fd, attendant)?;
                    match due.wake {
                        Wake::Ready if ends_with_ready => return Ok(()),
                        Wake::Adopted => self.meanwhile(&mut conversation, attendant)?,
                        _ => {}
                    }
                }
            }
        }
    }

    fn meanwhile(
        &mut self,
        conversation: &mut Conversation,
        attendant: &mut dyn Attendant,
    ) -> Result<()> {
        attendant.meanwhile(&self.process)?;
        // The child is spared to ask and to wait, if nothing is left to do for it.
        if conversation.awaits_leave()
            && attendant.ready_ahead(&self.process)?
            && self.page.give_leave()
        {
            conversation.leave_given();
        }
        Ok(())
    }

    fn listen(&self) -> Result<Heard> {
        let cancel = self.setting.cancel;
        let fds = [(self.wake.as_fd(), PollFlags::POLLIN)];
        let mut stage = None;
        loop {
            let until = self.setting.deadline.min(Instant::now() + SLOW);
            match cancel.wait(&fds, Some(until)) {
                Ok(_) => return receive(&self.wake),
                Err(e) if *e.kind() != ErrorKind::Timeout => return Err(e),
                Err(e) if until == self.setting.deadline => {
                    return Err(e.during(self.where_it_is()));
                }
                // Slow enough to be asked about: the step that it is at now, since when.
                Err(_) => {
                    drop(stage.take());
                    let here = cancel
                        .stages()
                        .enter_since(self.where_it_is(), self.since());
                    stage = Some(here);
                }
            }
        }
    }

    /// When the present step began, by the child's clock, which is ours.
    fn since(&self) -> Instant {
        let step = self.page.step.load(Ordering::Acquire) as usize;
        let began = self
            .page
            .times
            .get(step)
            .map_or(0, |t| t.load(Ordering::Acquire));
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
        let now = now.map_or(0, |now| Duration::from(now).as_nanos());
        let ago = u64::try_from(now).unwrap_or(0).saturating_sub(began);
        let known = Some(Duration::from_nanos(ago)).filter(|_| began > 0);
        let now = Instant::now();
        known.and_then(|ago| now.checked_sub(ago)).unwrap_or(now)
    }

    fn where_it_is(&self) -> String {
        let step = self.page.step.load(Ordering::Acquire) as usize;
        let words = self
            .plan
            .steps
            .get(step)
            .map(step_words)
            .unwrap_or_default();
        format!("launch, at step {step} ({words})")
    }

    fn attend(
        &mut self,
        due: Due,
        fd: Option<OwnedFd>,
        attendant: &mut dyn Attendant,
    ) -> Result<()> {
        match due.wake {
            Wake::Adopted => {
                if let Some(cgroup) = self.place {
                    placement::place(cgroup, self.process.pid())?;
                }
                adopt::adopt(self.process.pid(), &self.plan.adoption)?;
                attendant.adopted(&self.process)?;
            }
            Wake::HooksDue => attendant.hooks_due(&self.process)?,
            Wake::Console => {
                let lacking = || {
                    Error::new(
                        ErrorKind::Internal,
                        "the terminal's master did not come with its wake",
                    )
                };
                self.console = Some(fd.ok_or_else(lacking)?);
            }
            Wake::Listener => self.take_listener(attendant)?,
            Wake::Ready => attendant.ready(&self.process)?,
        }
        if due.answered {
            match send(
                self.wake.as_raw_fd(),
                &[due.wake as u8],
                MsgFlags::MSG_NOSIGNAL,
            ) {
                Ok(_) => {}
                // It died meanwhile: what comes next is the end, which says why. Should it live, it would wait for
                // this answer for ever.
                Err(Errno::EPIPE | Errno::ECONNRESET) => {
                    let _ = self.process.kill(libc::SIGKILL);
                }
                Err(errno) => return Err(Error::os(errno, "send(wake)")),
            }
        }
        Ok(())
    }

    /// After `Step::Reborn` the process is another one: a child of ours too (CLONE_PARENT).
    fn follow_rebirth(&mut self) -> Result<()> {
        let reborn = self.page.reborn.load(Ordering::Acquire);
        if reborn == 0 || reborn == self.process.pid() {
            return Ok(());
        }
        let _birth = self.setting.children.birth();
        if self.setting.children.seen(reborn).is_some() {
            return Err(report::ended_early(
                self.plan,
                self.page.step.load(Ordering::Acquire),
                None,
            ));
        }
        let pidfd = pidfd_open(reborn).with(|| format!("pidfd_open({reborn})"))?;
        self.process = ProcessHandle::new(reborn, pidfd);
        Ok(())
    }

    /// The wake came just before the filter is loaded; no call under the filter could tell of it.
    fn take_listener(&mut self, attendant: &mut dyn Attendant) -> Result<()> {
        let number = loop {
            let number = self.page.listener.load(Ordering::Acquire);
            if number >= 0 {
                break number;
            }
            if self.page.failure().is_some()
                || self.process.has_ended()
                || Instant::now() > self.setting.deadline
            {
                return Err(self.failure());
            }
            std::thread::sleep(LISTENER_PERIOD);
        };
        let listener =
            pidfd_getfd(self.process.as_fd(), number).with(|| format!("pidfd_getfd({number})"))?;
        self.page.listener_taken.store(1, Ordering::Release);
        attendant.listener(&self.process, listener)
    }

    /// The socket has ended in a launch that ends with execve: did it happen? "EOF" alone proves
    /// nothing, a kill just before looks the same.
    fn verdict(&self) -> Result<()> {
        if self.page.failure().is_some() {
            return Err(self.failure());
        }
        let pid = self.process.pid();
        // Reaping has to wait for this guard, and the words of a failure wait for the reaping.
        let birth = self.setting.children.birth();
        let seen = self.setting.children.seen(pid);
        let stat = Stat::of(pid);
        drop(birth);
        match (seen, stat) {
            (Some(exit), _) if exit.executed => Ok(()),
            (None, Ok(stat)) if stat.has_executed() => Ok(()),
            (Some(_), _) | (None, Ok(_)) => Err(self.failure()),
            (None, Err(errno)) => Err(Error::os(errno, format!("read(/proc/{pid}/stat)"))),
        }
    }

    /// The words for a process that will not run its program; waits (bounded) for its end.
    fn failure(&self) -> Error {
        if let Some(failure) = self.page.failure() {
            return report::failed_step(self.plan, self.program, failure);
        }
        let exit = self.end_of(self.process.pid());
        match self.page.failure() {
            Some(failure) => report::failed_step(self.plan, self.program, failure),
            None => report::ended_early(self.plan, self.page.step.load(Ordering::Acquire), exit),
        }
    }

    fn end_of(&self, pid: i32) -> Option<Exit> {
        let patience = Instant::now() + Duration::from_secs(5);
        let waited =
            Cancel::new().and_then(|cancel| self.process.wait_ended(Some(patience), &cancel));
        waited
            .ok()
            .and_then(|()| self.setting.children.collect(pid))
    }

    /// Nothing is left of a launch that failed.
    fn put_down(&mut self) {
        // A rebirth that nobody heard of yet; if it can't be followed it has ended already.
        let _ = self.follow_rebirth();
        // NotFound: it has ended by itself.
        let _ = self.process.kill(libc::SIGKILL);
        self.end_of(self.process.pid());
        if self.first != self.process.pid() {
            self.setting.children.collect(self.first);
        }
    }
}

fn receive(wake: &OwnedFd) -> Result<Heard> {
    let mut byte = [0u8; 1];
    let mut space = nix::cmsg_space!(OwnedFd);
    let mut slices = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = match recvmsg::<()>(wake.as_raw_fd(), &mut slices, Some(&mut space), flags) {
        Ok(message) => message,
        Err(Errno::ECONNRESET) => return Ok(Heard::End),
        Err(errno) => return Err(Error::os(errno, "recvmsg(wake)")),
    };
    if message.bytes == 0 {
        return Ok(Heard::End);
    }
    let numbers = message.cmsgs().ok().and_then(|mut all| {
        all.find_map(|m| match m {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        })
    });
    let fd = numbers.map(crate::sys::fds::received);
    Ok(Heard::Byte(byte[0], fd))
}
