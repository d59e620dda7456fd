//! Which wake may come now: the order of a launch's messages, derived from its plan.
//!
//! Pure. The child writes facts into the shared page; a byte on the socket only says "look".
//!
//! ```text
//! child                               parent
//!   AwaitAdoption  ── Adopted ──▶       writes maps, oom_score_adj, raised limits (no step where there are none)
//!                  ◀── Adopted ──
//!   …                                   meanwhile writes cgroup limits
//!   OpenConsole    ── Console+fd ─▶     keeps the master
//!   AwaitHooks     ── HooksDue ──▶      runs prestart, createRuntime, createContainer
//!                  ◀── HooksDue ──
//!   Seccomp        ── Listener ──▶      takes the listener by the number in the page
//!   Ready          ── Ready ─────▶      attaches the device program; records the pid
//!                  ◀── Ready ─────
//!   (create)  Gate … Execute            `start` opens the fifo; EOF or {step, errno}
//!   (exec)    Execute  ── EOF ──▶       page says which step failed, the kernel whether execve happened
//! ```

use std::collections::VecDeque;

use rsrun_init::step::{Stage, Step, Wake};

/// The wakes that are still to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    due: VecDeque<Due>,
}

/// A wake that a step of the plan will send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub wake: Wake,
    /// Whether the child waits for the same byte in answer.
    pub answered: bool,
}

impl Conversation {
    /// The conversation that these steps lead to.
    pub fn of<P: Stage>(steps: &[Step<P>]) -> Self {
        Self {
            due: steps.iter().filter_map(due).collect(),
        }
    }

    /// Whether the launch ends with Ready (create) and not with execve (exec, hooks, programs).
    #[must_use]
    pub fn ends_with_ready(&self) -> bool {
        self.due.back().is_some_and(|due| due.wake == Wake::Ready)
    }

    /// Whether the child waits for what its parent writes.
    #[must_use]
    pub fn begins_with_adoption(&self) -> bool {
        self.due
            .front()
            .is_some_and(|due| due.wake == Wake::Adopted)
    }

    /// Takes a byte from the socket: the wake it is, or `None` when it may not come now.
    pub fn take(&mut self, byte: u8) -> Option<Due> {
        let next = *self.due.front()?;
        if next.wake as u8 != byte {
            return None;
        }
        self.due.pop_front()
    }
}

fn due<P: Stage>(step: &Step<P>) -> Option<Due> {
    match step {
        Step::AwaitAdoption => Some(Due {
            wake: Wake::Adopted,
            answered: true,
        }),
        Step::AwaitHooks => Some(Due {
            wake: Wake::HooksDue,
            answered: true,
        }),
        Step::OpenConsole { .. } => Some(Due {
            wake: Wake::Console,
            answered: false,
        }),
        Step::Seccomp { listener: true, .. } => Some(Due {
            wake: Wake::Listener,
            answered: false,
        }),
        Step::Ready { wait } => Some(Due {
            wake: Wake::Ready,
            answered: *wait,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PlanStep;

    fn create() -> Conversation {
        let steps = [
            PlanStep::ResetSignals,
            PlanStep::AwaitAdoption,
            PlanStep::OpenConsole {
                rows: 0,
                columns: 0,
                uid: 0,
                bind: true,
            },
            PlanStep::Ready { wait: true },
        ];
        Conversation::of(&steps)
    }

    #[test]
    fn wakes_come_in_the_order_of_the_steps() {
        let mut conversation = create();
        assert!(conversation.ends_with_ready());
        let wakes: Vec<_> = [1, 3, 4]
            .iter()
            .filter_map(|byte| conversation.take(*byte))
            .map(|due| due.wake)
            .collect();
        assert_eq!(wakes, [Wake::Adopted, Wake::Console, Wake::Ready]);
        assert_eq!(conversation.take(4), None);
    }

    #[test]
    fn a_wake_out_of_turn_is_refused_and_changes_nothing() {
        let mut conversation = create();
        assert_eq!(conversation.take(4), None);
        assert_eq!(conversation.take(0), None);
        assert!(conversation.take(1).is_some());
    }
}
