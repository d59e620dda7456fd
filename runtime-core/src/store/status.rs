//! Facts → status. Pure: the caller has looked, this only decides.
//!
//! ```text
//! record without init                                    creating
//! init gone (reaped, zombie, another boot or process)    stopped
//! init alive, has not executed a program                 created; creating without a gate to wait at
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
        /// It waits at a gate. One that does not is recorded before its namespaces are what they will be.
        is_gated: bool,
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
                is_gated,
            },
            _,
        ) => match is_gated {
            true => Status::Created,
            false => Status::Creating,
        },
        (InitSeen::Alive { .. }, true) => Status::Paused,
        (InitSeen::Alive { .. }, false) => Status::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_init_is_created_even_in_a_frozen_cgroup() {
        let parked = InitSeen::Alive {
            has_executed: false,
            is_gated: true,
        };
        assert_eq!(status(parked, true), Status::Created);
    }

    #[test]
    fn an_init_that_waits_for_nobody_is_never_created() {
        let alive = |has_executed| InitSeen::Alive {
            has_executed,
            is_gated: false,
        };
        assert_eq!(status(alive(false), false), Status::Creating);
        assert_eq!(status(alive(true), false), Status::Running);
    }

    #[test]
    fn a_dead_init_is_stopped_whatever_its_cgroup_says() {
        assert_eq!(status(InitSeen::Gone, true), Status::Stopped);
    }

    #[test]
    fn frozen_and_running_are_told_apart() {
        let alive = InitSeen::Alive {
            has_executed: true,
            is_gated: true,
        };
        assert_eq!(status(alive, true), Status::Paused);
        assert_eq!(status(alive, false), Status::Running);
    }
}
