//! What is an operation at, and since when? Noted by whoever works, read by whoever asks why it takes so long.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// One thing that has begun and is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// In words: `hook createRuntime #0 (/bin/sleep)`.
    pub what: Cow<'static, str>,
    /// When it began.
    pub since: Instant,
}

/// The stages of one operation, outermost first. Clones are the same stages.
#[derive(Clone, Debug, Default)]
pub struct Stages(Arc<Mutex<Vec<Stage>>>);

impl Stages {
    /// Notes that `what` has begun; it is over when the guard is dropped.
    pub fn enter(&self, what: impl Into<Cow<'static, str>>) -> Entered<'_> {
        self.enter_since(what, Instant::now())
    }

    /// The same for what began earlier.
    pub fn enter_since(&self, what: impl Into<Cow<'static, str>>, since: Instant) -> Entered<'_> {
        let what = what.into();
        let mut open = self.open();
        open.push(Stage { what, since });
        Entered {
            stages: self,
            depth: open.len(),
        }
    }

    /// All of this moment, outermost first.
    #[must_use]
    pub fn now(&self) -> Vec<Stage> {
        self.open().clone()
    }

    fn open(&self) -> MutexGuard<'_, Vec<Stage>> {
        // A list of texts is whole whoever panicked beside it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stage that is not over.
#[derive(Debug)]
pub struct Entered<'a> {
    stages: &'a Stages,
    depth: usize,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.stages.open().truncate(self.depth.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_told_from_the_outside_in_until_they_are_over() {
        let stages = Stages::default();
        let words = || {
            stages
                .now()
                .iter()
                .map(|s| s.what.clone())
                .collect::<Vec<_>>()
        };
        let outer = stages.enter("outer");
        {
            let same = stages.clone();
            let _inner = same.enter(format!("inner {}", 1));
            assert_eq!(words(), ["outer", "inner 1"]);
        }
        let inner = stages.enter("inner");
        assert_eq!(words(), ["outer", "inner"]);
        drop(inner);
        drop(outer);
        assert!(words().is_empty());
    }
}
