//! What does an init hold that is created and not started? A process of the product's binary, in sight of the
//! container's other processes: only what its plan names.

use std::fs;

use nix::unistd::Pid;

/// Its descriptors above the streams: number and what it is.
pub fn descriptors(pid: Pid) -> Vec<(u32, String)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let mut held: Vec<(u32, String)> = entries
        .filter_map(|e| {
            let number = e.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(e.path()).ok()?.display().to_string()))
        })
        .filter(|(number, _)| *number > 2)
        .collect();
    held.sort();
    held
}

/// Those of them that would be a way out, or a way into another container.
///
/// Allowed are the wake socket and the gate's fifo of its own, copies of its streams (placed, and as they were given:
/// null devices for who was given none), a procfs that is mounted nowhere, and directories of the container's own
/// tree (`/`, as seen from the host: a mount that is detached from it). None that climbing leads out of.
pub fn leaks(pid: Pid, id: &str) -> Vec<String> {
    let held = descriptors(pid);
    let sockets = held
        .iter()
        .filter(|(_, to)| to.starts_with("socket:"))
        .count();
    let streams: Vec<String> = (0..3)
        .filter_map(|n| fs::read_link(format!("/proc/{pid}/fd/{n}")).ok())
        .map(|to| to.display().to_string())
        .collect();
    let climb = "../".repeat(24);
    let leads_out = |number: u32| {
        fs::exists(format!("/proc/{pid}/fd/{number}/{climb}srv/canary")).unwrap_or(false)
    };
    let own_proc = |to: &str| {
        to.strip_suffix("/fd")
            .is_some_and(|pid| pid.trim_start_matches('/').parse::<u32>().is_ok())
    };
    let allowed = |to: &str| {
        (to.starts_with("socket:") && sockets == 1)
            || to.ends_with(&format!("/{id}/exec.fifo"))
            || to == "/"
            || (to.starts_with("/proc/") || to == "/proc" || own_proc(to))
            || streams.iter().any(|s| s == to)
            || ["/dev/null", "/null (deleted)"].contains(&to)
    };
    let foreign = held
        .iter()
        .filter(|(number, to)| !allowed(to) || leads_out(*number));
    foreign
        .map(|(number, to)| format!("descriptor {number} is {to}"))
        .collect()
}
