//! A plan while it is being written: descriptors get their names, steps their order.

use rsrun_init::step::Step;

use super::{Adoption, FdName, FdSource, Join, Plan, PlanStep};

/// A plan in the making.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) fds: Vec<FdSource>,
    pub(super) joins: Vec<Join>,
    pub(super) clone_flags: u64,
    pub(super) adoption: Adoption,
    pub(super) root: Option<FdName>,
    pub(super) thread_affinity: Option<Vec<u64>>,
    pub(super) keep_capabilities: Option<u64>,
    steps: Vec<PlanStep>,
}

impl Draft {
    /// Names a descriptor; the same source (but for trees, which are made anew each) has one name.
    pub(super) fn fd(&mut self, source: FdSource) -> FdName {
        let reusable = !matches!(source, FdSource::Tree { .. });
        if reusable && let Some(index) = self.fds.iter().position(|known| *known == source) {
            return FdName(index);
        }
        self.fds.push(source);
        FdName(self.fds.len() - 1)
    }

    pub(super) fn step(&mut self, step: PlanStep) {
        self.steps.push(step);
    }

    pub(super) fn steps(&mut self, steps: impl IntoIterator<Item = PlanStep>) {
        self.steps.extend(steps);
    }

    pub(super) fn has(&self, step: &PlanStep) -> bool {
        self.steps.contains(step)
    }

    /// Has the process wait for what its parent writes, if that is anything: two processes are woken for it.
    pub(super) fn await_adoption(&mut self) {
        if self.adoption != Adoption::default() {
            self.step(Step::AwaitAdoption);
        }
    }

    pub(super) fn finish(self) -> Plan {
        Plan {
            fds: self.fds,
            joins: self.joins,
            root: self.root,
            thread_affinity: self.thread_affinity,
            keep_capabilities: self.keep_capabilities,
            clone_flags: self.clone_flags,
            adoption: self.adoption,
            steps: self.steps,
        }
    }
}
