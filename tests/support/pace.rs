//! How fast is this machine? An emulated one gets more time and less work.

use std::sync::OnceLock;
use std::time::Duration;

/// By how much time limits grow and repetitions shrink: 1 on real processors.
///
/// `RSRUN_PACE=N` overrides what the processor's name says.
pub fn slowness() -> u32 {
    static FOUND: OnceLock<u32> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let said = std::env::var("RSRUN_PACE")
            .ok()
            .and_then(|p| p.parse().ok());
        said.unwrap_or_else(|| if is_emulated() { 8 } else { 1 })
            .max(1)
    })
}

/// A time limit that holds here.
pub fn patient(limit: Duration) -> Duration {
    limit * slowness()
}

/// How often to do what would be done `count` times on a fast machine; at least once.
pub fn fewer(count: usize) -> usize {
    (count / usize::try_from(slowness()).unwrap_or(1)).max(1)
}

/// Whether all variants are to be run, or only the newest of each.
pub fn is_thorough() -> bool {
    slowness() == 1
}

fn is_emulated() -> bool {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    processors
        .lines()
        .any(|l| l.starts_with("model name") && (l.contains("QEMU") || l.contains("TCG")))
}
