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
//!                  ◀── Ready ─────      (neither where the parent has done both and said so in the page before)
//!   (create)  Gate … Execute            `start` opens the fifo; EOF or {step, errno}
//!   (run, exec)  Execute  ── EOF ──▶    page says which step failed, the kernel whether execve happened
//! ```

use std::collections::VecDeque;

use rsrun_init::step::{Stage, Step, Wake};

/// The wakes that are still to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    due: VecDeque<Due>,
    gated: bool,
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
            gated: steps.iter().any(|step| matches!(step, Step::Gate { .. })),
        }
    }

    /// Whether the launch ends with Ready, before a gate (create), and not with execve (run, exec, hooks, programs).
    #[must_use]
    pub fn ends_with_ready(&self) -> bool {
        self.gated
    }

    /// Whether nothing is to come but a Ready on which the program follows.
    #[must_use]
    pub fn awaits_leave(&self) -> bool {
        let ready = |due: &Due| due.wake == Wake::Ready && due.answered;
        !self.gated && self.due.len() == 1 && self.due.iter().all(ready)
    }

    /// Whether nothing is to come but the end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.due.is_empty()
    }

    /// The child has leave and will not ask.
    pub fn leave_given(&mut self) {
        self.due.clear();
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
    use crate::plan::{FdName, PlanStep};

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
            PlanStep::Gate { fifo: FdName(0) },
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
    fn leave_is_given_where_nothing_but_ready_is_to_come_and_no_gate() {
        let steps = [PlanStep::AwaitAdoption, PlanStep::Ready { wait: true }];
        let mut conversation = Conversation::of(&steps);
        assert!(!conversation.ends_with_ready());
        assert!(!conversation.awaits_leave());
        assert!(conversation.take(1).is_some());
        assert!(conversation.awaits_leave());
        conversation.leave_given();
        assert_eq!(conversation.take(4), None);
        assert!(!conversation.awaits_leave());

        let mut gated = create();
        let taken = [1, 3].map(|byte| gated.take(byte).is_some());
        assert_eq!(taken, [true, true]);
        assert!(!gated.awaits_leave());
        let told = [PlanStep::Ready { wait: false }];
        assert!(!Conversation::of(&told).awaits_leave());
    }

    #[test]
    fn a_wake_out_of_turn_is_refused_and_changes_nothing() {
        let mut conversation = create();
        assert_eq!(conversation.take(4), None);
        assert_eq!(conversation.take(0), None);
        assert!(conversation.take(1).is_some());
    }
}
