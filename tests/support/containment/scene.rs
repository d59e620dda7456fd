//! What does an attack work on? The ground of the command line's suites, with the oracle around it.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::Containment;
use crate::cli::bundle::Bundle;
use crate::cli::facts::Facts;
use crate::cli::ground::Ground;
use crate::cli::runtime::Output;
use crate::pace::patient;
use crate::places::Places;

/// How much of the machine the oracle looks at.
#[derive(Clone, Copy, Debug)]
pub enum Thoroughness {
    /// All but most of the settings.
    Quick,
    /// All.
    Full,
}

/// The machine under attack.
pub struct Scene {
    /// Bundles, the command line, ids.
    pub ground: Ground,
    containment: Mutex<Containment>,
}

impl Scene {
    /// Lays it out; in the guest and on private ground only.
    pub fn enter() -> Result<Self, String> {
        if !super::guest::is_here() {
            return Err("runs in the guest of hack/vm/run only".into());
        }
        let ground = Ground::enter()?;
        let places = Places::find();
        let binaries = [
            ground.runtime.path.clone(),
            places.bin.join(places.shim_name()),
        ];
        let containment = Containment::watch(&ground.prefix, &ground.work, &binaries)
            .map_err(|e| format!("needs the oracle: {e}"))?;
        Ok(Self {
            ground,
            containment: Mutex::new(containment),
        })
    }

    /// A new bundle with a root file system and the base spec.
    pub fn bundle(&self) -> Bundle<'_> {
        self.ground.bundle()
    }

    /// The oracle.
    pub fn oracle(&self) -> MutexGuard<'_, Containment> {
        self.containment.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A place in the canary tree.
    pub fn canary(&self, name: &str) -> String {
        self.oracle().canary().text(name)
    }

    /// The same as one gets there by climbing from anywhere in a root file system.
    pub fn climb(&self, name: &str) -> String {
        format!(
            "{}{}",
            "../".repeat(24),
            self.canary(name).trim_start_matches('/')
        )
    }

    /// What the oracle says once all that was killed has gone.
    pub fn settled(&self, how: Thoroughness) -> Vec<String> {
        let deadline = Instant::now() + patient(Duration::from_millis(500));
        // What was touched is told once, so it is kept.
        let mut touched: Vec<String> = Vec::new();
        loop {
            let mut found = match how {
                Thoroughness::Quick => self.oracle().quick(),
                Thoroughness::Full => self.oracle().differences(),
            };
            touched.extend(found.iter().filter(|l| l.starts_with("touched")).cloned());
            found.retain(|l| !l.starts_with("touched"));
            if found.is_empty() || Instant::now() > deadline {
                found.extend(touched);
                return found;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs the probe in the bundle's container and compares it with the spec.
    #[track_caller]
    pub fn as_specified(&self, bundle: &mut Bundle<'_>) -> Facts {
        let facts = bundle.facts();
        let found = super::inside::differences(&bundle.spec, &facts);
        assert!(found.is_empty(), "{}", found.join("; "));
        facts
    }

    /// A file or directory that the cases may write, not seen by the oracle.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.ground.work.join("bundles").join(name)
    }
}

/// The attack was stopped: an error in words, or a container that ended by itself. Never a signal of a crash.
#[track_caller]
pub fn stopped(out: Output) -> Output {
    assert!(
        !out.stderr.contains("panicked at"),
        "a panic: {}",
        out.stderr
    );
    assert!(
        ![139, 134, 132, -1].contains(&out.code),
        "a crash, {}: {}",
        out.code,
        out.stderr
    );
    out
}
