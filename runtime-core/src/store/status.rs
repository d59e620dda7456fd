//! Facts → status. Pure: the caller has looked, this only decides.
//!
//! ```text
//! record without init                                    creating
//! init gone (reaped, zombie, another boot or process)    stopped
//! init alive, has not executed a program                 created
//! init alive, cgroup frozen                              paused
//! init alive                                             running
//! ```

use crate::container::Status;

/// What was seen of a container's init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitSeen {
    /// The record names none yet.
    Unborn,
    /// It has ended, or the pid belongs to another process or boot.
    Gone,
    /// It lives.
    Alive {
        /// `PF_FORKNOEXEC` is cleared: exact, since nothing but the user's program is ever executed.
        has_executed: bool,
    },
}

/// The status that these facts mean.
#[must_use]
pub fn status(init: InitSeen, is_frozen: bool) -> Status {
    match (init, is_frozen) {
        (InitSeen::Unborn, _) => Status::Creating,
        (InitSeen::Gone, _) => Status::Stopped,
        (
            InitSeen::Alive {
                has_executed: false,
            },
            _,
        ) => Status::Created,
        (InitSeen::Alive { has_executed: true }, true) => Status::Paused,
        (InitSeen::Alive { has_executed: true }, false) => Status::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_init_is_created_even_in_a_frozen_cgroup() {
        assert_eq!(
            status(
                InitSeen::Alive {
                    has_executed: false
                },
                true
            ),
            Status::Created
        );
    }

    #[test]
    fn a_dead_init_is_stopped_whatever_its_cgroup_says() {
        assert_eq!(status(InitSeen::Gone, true), Status::Stopped);
    }

    #[test]
    fn frozen_and_running_are_told_apart() {
        let alive = InitSeen::Alive { has_executed: true };
        assert_eq!(status(alive, true), Status::Paused);
        assert_eq!(status(alive, false), Status::Running);
    }
}
