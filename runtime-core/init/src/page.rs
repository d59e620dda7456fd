//! The facts of one launch: a page shared between the child, which writes, and the parent, which reads.
//!
//! A socket only wakes; what happened is here, and whether execve happened the kernel says
//! (`PF_FORKNOEXEC`). The page lies in a MAP_SHARED mapping outside every heap.

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

/// Times are kept for this many steps; later ones are not timed.
pub const TIMED_STEPS: usize = 384;

/// Values of [`Page::failpoint_kind`].
pub mod failpoint {
    /// No failpoint.
    pub const NONE: u32 = 0;
    /// Wait before the step until the tester changes the kind (a pid 1 is deaf to its own SIGSTOP).
    pub const STOP: u32 = 1;
    /// Die of SIGKILL before the step.
    pub const KILL: u32 = 2;
}

/// Values of [`Page::leave`]: who was first of a child that comes to `Step::Ready` and waits, and a parent that has nothing
/// left to do for it.
pub mod leave {
    /// Nobody yet.
    pub const OPEN: u32 = 0;
    /// The child: it has asked, and the parent answers.
    pub const ASKED: u32 = 1;
    /// The parent: the child goes on and asks nobody.
    pub const GIVEN: u32 = 2;
}

/// Values of [`Page::loopback`]: who sets `lo` up in the network namespace that the child was born in. Nobody but who has taken
/// it upon himself: a parent that came late would do it beneath the program.
pub mod loopback {
    /// Nobody yet.
    pub const DOWN: u32 = 0;
    /// The parent is at it.
    pub const RISING: u32 = 1;
    /// It is up, by the parent.
    pub const UP: u32 = 2;
    /// The child.
    pub const THEIRS: u32 = 3;
}

/// Facts of a launch. Every field is written by the child only, but the failpoint, `listener_taken`, `leave` and
/// `loopback`.
#[repr(C)]
#[derive(Debug)]
pub struct Page {
    /// Index of the step that is being done, or that failed.
    pub step: AtomicU32,
    /// errno of the failed step; 0 while none failed.
    pub errno: AtomicI32,
    /// Number of the system call that failed, so that the parent can name it; u32::MAX if none did.
    pub syscall: AtomicU32,
    /// Number of the seccomp notification descriptor in the child, or -1.
    pub listener: AtomicI32,
    /// Set by the parent once it has the listener: the child goes on.
    pub listener_taken: AtomicU32,
    /// Whether the child has to ask before it goes beyond `Step::Ready`, one of [`leave`].
    pub leave: AtomicU32,
    /// Who sees to `lo`, one of [`loopback`].
    pub loopback: AtomicU32,
    /// Host pid of the process that `Step::Reborn` made; 0 before.
    pub reborn: AtomicI32,
    /// Index of the candidate that `FindProgram` chose; u32::MAX before.
    pub program: AtomicU32,
    /// Test hook: what to do before step `failpoint_step`, one of [`failpoint`].
    pub failpoint_kind: AtomicU32,
    /// Test hook: at which step.
    pub failpoint_step: AtomicU32,
    /// CLOCK_MONOTONIC in ns when each step began; the entry after the last step is execve itself.
    pub times: [AtomicU64; TIMED_STEPS],
}

impl Page {
    /// The parent gives the child leave to go beyond `Step::Ready` before it is there. Too late (`false`) where it has asked:
    /// it waits for the answer.
    #[must_use]
    pub fn give_leave(&self) -> bool {
        self.take_turn(leave::GIVEN)
    }

    /// The child is at `Step::Ready`. Without leave (`false`) it has to ask, and its parent knows that it will.
    #[must_use]
    pub(crate) fn has_leave(&self) -> bool {
        !self.take_turn(leave::ASKED)
    }

    /// Whether `whose` is the first.
    fn take_turn(&self, whose: u32) -> bool {
        is_changed(&self.leave, leave::OPEN, whose)
    }

    /// The parent sets `lo` up by `raise`, which says whether it could, unless its child does.
    pub fn raise_loopback(&self, raise: impl FnOnce() -> bool) {
        if is_changed(&self.loopback, loopback::DOWN, loopback::RISING) {
            let now = if raise() {
                loopback::UP
            } else {
                loopback::DOWN
            };
            // The child may have waited for long enough.
            is_changed(&self.loopback, loopback::RISING, now);
        }
    }

    /// Whether the child has to set `lo` up. `None`: the parent is at it.
    pub(crate) fn loopback_is_theirs(&self) -> Option<bool> {
        if is_changed(&self.loopback, loopback::DOWN, loopback::THEIRS) {
            return Some(true);
        }
        match self.loopback.load(Ordering::Acquire) {
            loopback::RISING | loopback::DOWN => None,
            at => Some(at != loopback::UP),
        }
    }

    /// A failure as the parent reads it: step, errno, system call.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        match self.errno.load(Ordering::Acquire) {
            0 => None,
            errno => Some(Failure {
                step: self.step.load(Ordering::Acquire),
                errno,
                syscall: self.syscall.load(Ordering::Acquire),
            }),
        }
    }
}

fn is_changed(place: &AtomicU32, from: u32, to: u32) -> bool {
    place
        .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
        .is_ok()
}

/// A step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its index in the plan.
    pub step: u32,
    /// Why.
    pub errno: i32,
    /// Which system call of it; u32::MAX when the step's own check said no.
    pub syscall: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let number = || AtomicU32::new(0);
        Page {
            step: number(),
            errno: AtomicI32::new(0),
            syscall: number(),
            listener: AtomicI32::new(-1),
            listener_taken: number(),
            leave: number(),
            loopback: number(),
            reborn: AtomicI32::new(0),
            program: number(),
            failpoint_kind: number(),
            failpoint_step: number(),
            times: [const { AtomicU64::new(0) }; TIMED_STEPS],
        }
    }

    #[test]
    fn a_parent_that_comes_late_leaves_the_loopback_alone() {
        let page = page();
        assert_eq!(page.loopback_is_theirs(), Some(true));
        let mut raised = false;
        page.raise_loopback(|| {
            raised = true;
            true
        });
        assert!(!raised);
    }

    #[test]
    fn a_child_waits_for_a_parent_that_is_at_it() {
        for (is_raised, theirs) in [(true, Some(false)), (false, Some(true))] {
            let page = page();
            page.raise_loopback(|| {
                assert_eq!(page.loopback_is_theirs(), None);
                is_raised
            });
            assert_eq!(page.loopback_is_theirs(), theirs);
        }
    }
}
