//! A plan in words: for `--explain`, and for the errors that name a step.

use std::ffi::CString;
use std::fmt::Write;

use rsrun_init::step::{MountAttributes, Param, Step};

use super::{FdName, FdSource, IdMaps, Plan, PlanStep, Planned, capabilities, namespaces};

/// The whole plan, a step a line, with what the parent opens and writes before.
#[must_use]
pub fn explain(plan: &Plan) -> String {
    let mut text = String::new();
    for (index, source) in plan.fds.iter().enumerate() {
        line(
            &mut text,
            "open",
            &format!("[{index}] {}", source_words(source)),
        );
    }
    if let Some(mask) = &plan.thread_affinity {
        line(
            &mut text,
            "thread",
            &format!("run on cpus {}", mask_words(mask)),
        );
    }
    for join in &plan.joins {
        let kinds = namespaces::names(join.flags);
        line(
            &mut text,
            "thread",
            &format!("join {kinds} of [{}]", join.fd.0),
        );
    }
    if let Some(FdName(root)) = plan.root {
        line(&mut text, "thread", &format!("chroot to [{root}]"));
    }
    if let Some(keep) = plan.keep_capabilities {
        line(
            &mut text,
            "thread",
            &format!("keep {}", capabilities::words(keep)),
        );
    }
    let new = match namespaces::names(plan.clone_flags) {
        kinds if kinds.is_empty() => "no new namespace".into(),
        kinds => format!("new {kinds}"),
    };
    line(&mut text, "clone", &new);
    adoption(&mut text, plan);
    for (index, step) in plan.steps.iter().enumerate() {
        line(&mut text, &index.to_string(), &step_words(step));
    }
    text
}

fn line(text: &mut String, head: &str, words: &str) {
    // Writing into a String can't fail.
    let _ = writeln!(text, "{head:>6}  {words}");
}

fn adoption(text: &mut String, plan: &Plan) {
    if plan.adoption.maps != IdMaps::default() {
        line(
            text,
            "parent",
            &format!("map ids {}", maps_words(&plan.adoption.maps)),
        );
    }
    if let Some(score) = plan.adoption.oom_score_adj {
        line(text, "parent", &format!("set oom_score_adj {score}"));
    }
    for (resource, hard) in &plan.adoption.raise {
        let limit = format!(
            "raise {} to {}",
            resource_words(*resource),
            limit_words(*hard)
        );
        line(text, "parent", &limit);
    }
}

/// One step, as errors name it: `mount proc on /proc`.
#[must_use]
pub fn step_words(step: &PlanStep) -> String {
    match step {
        Step::ResetSignals => "reset signals".into(),
        Step::ResetInherited => "reset what is inherited".into(),
        Step::AwaitAdoption => "wait for maps and limits".into(),
        Step::JoinNamespace { fd, flag } => {
            format!("join {} namespace of [{}]", namespaces::name(*flag), fd.0)
        }
        Step::Unshare { flags } => format!("unshare {}", namespaces::names(*flags)),
        Step::BecomeRoot => "become root of the user namespace".into(),
        Step::Reborn => "be born again in the pid namespace".into(),
        Step::OpenProc => "open a private procfs".into(),
        Step::TimeNamespace { offsets } => {
            format!(
                "enter a new time namespace with offsets {:?}",
                shown(offsets)
            )
        }
        Step::Hostname { name } => format!("set hostname {}", shown(name)),
        Step::Domainname { name } => format!("set domainname {}", shown(name)),
        Step::Sysctl { path, value } => format!("write sysctl {} = {}", shown(path), shown(value)),
        Step::AttachRoot { .. }
        | Step::OpenRoot
        | Step::MountFilesystem { .. }
        | Step::AttachTree { .. }
        | Step::SetMountAttributes { .. }
        | Step::MakeDirectory { .. }
        | Step::MakeNode { .. }
        | Step::MakeLink { .. }
        | Step::MaskPath { .. }
        | Step::ReadonlyPath { .. }
        | Step::AwaitHooks
        | Step::PivotRoot
        | Step::MoveRoot => file_words(step),
        other => process_words(other),
    }
}

fn file_words(step: &PlanStep) -> String {
    match step {
        Step::AttachRoot { tree } => format!("attach the root [{}]", tree.0),
        Step::OpenRoot => "open the root".into(),
        Step::MountFilesystem {
            fstype,
            source,
            params,
            flags,
            target,
            copy_up,
            after,
        } => {
            let mut words = format!("mount {}", shown(fstype));
            if source != fstype {
                words += &format!(" ({})", shown(source));
            }
            words += &format!(" on {}", shown(target));
            let options: Vec<String> = params.iter().map(param_words).collect();
            let options = [options.join(","), attribute_words(*flags)].join(" ");
            if !options.trim().is_empty() {
                words += &format!(" with {}", options.trim());
            }
            if *copy_up {
                words += ", contents copied up";
            }
            if *after != MountAttributes::default() {
                words += &format!(", then {}", change_words(after));
            }
            words
        }
        Step::AttachTree { tree, target } => format!("attach [{}] on {}", tree.0, shown(target)),
        Step::SetMountAttributes { target, change } => {
            format!(
                "change the mount on {}: {}",
                shown(target),
                change_words(change)
            )
        }
        Step::MakeDirectory { path } => format!("make directory {}", shown(path)),
        Step::MakeNode {
            path,
            mode,
            major,
            minor,
            uid,
            gid,
        } => format!(
            "make node {} {major}:{minor} mode {mode:o} owner {uid}:{gid}",
            shown(path)
        ),
        Step::MakeLink {
            path, points_to, ..
        } => {
            format!("make link {} -> {}", shown(path), shown(points_to))
        }
        Step::MaskPath { path } => format!("mask {}", shown(path)),
        Step::ReadonlyPath { path } => format!("make {} read-only", shown(path)),
        Step::AwaitHooks => "wait for the hooks of create".into(),
        Step::PivotRoot => "pivot_root".into(),
        Step::MoveRoot => "move the root over /".into(),
        other => process_words(other),
    }
}

fn process_words(step: &PlanStep) -> String {
    match step {
        Step::OpenConsole {
            rows,
            columns,
            uid,
            bind,
        } => {
            let bound = if *bind { ", bound to /dev/console" } else { "" };
            format!("open a terminal of {rows}x{columns} owner {uid}{bound}")
        }
        Step::NewSession { terminal: true } => "new session with the terminal".into(),
        Step::NewSession { terminal: false } => "new session".into(),
        Step::PlaceFd { fd, to, .. } => format!("place [{}] as fd {to}", fd.0),
        Step::KeepFd { fd } => format!("keep [{}]", fd.0),
        Step::SessionKeyring { name } => format!("join session keyring {}", shown(name)),
        Step::Label { file, value } => {
            format!("write {:?} to attr/{}", shown(value), shown(file))
        }
        Step::Rlimit {
            resource,
            soft,
            hard,
        } => format!(
            "set {} to {}, at most {}",
            resource_words(*resource),
            limit_words(*soft),
            limit_words(*hard)
        ),
        Step::Umask { mask } => format!("set umask {mask:04o}"),
        Step::Personality { persona } => format!("set personality {persona:#x}"),
        Step::Scheduler {
            policy,
            nice,
            priority,
            ..
        } => format!("set scheduler policy {policy}, nice {nice}, priority {priority}"),
        Step::IoPriority { value } => {
            format!(
                "set io priority class {} level {}",
                value >> 13,
                value & 0x1fff
            )
        }
        Step::Affinity { mask } if mask.is_empty() => "run on every cpu".into(),
        Step::Affinity { mask } => format!("run on cpus {}", mask_words(mask)),
        Step::MemoryPolicy { mode, nodes } => {
            format!("set memory policy {mode:#x} nodes {}", mask_words(nodes))
        }
        Step::BoundingSet { keep } => {
            format!("bound capabilities to {}", capabilities::words(*keep))
        }
        Step::Identity { uid, gid, groups } => {
            format!("become {uid}:{gid} with groups {groups:?}")
        }
        Step::Capabilities(sets) => format!(
            "set capabilities permitted {} effective {} inheritable {} ambient {}",
            capabilities::words(sets.permitted),
            capabilities::words(sets.effective),
            capabilities::words(sets.inheritable),
            capabilities::words(sets.ambient)
        ),
        Step::NoNewPrivileges => "set no_new_privs".into(),
        Step::Seccomp {
            filter, listener, ..
        } => {
            let listener = if *listener { " with a listener" } else { "" };
            format!("load a seccomp filter of {} lines{listener}", filter.len())
        }
        Step::Cwd { path, retry: true } => format!("chdir to cwd {}", shown(path)),
        Step::Cwd { path, retry: false } => format!("check cwd {}", shown(path)),
        Step::Undumpable => "be undumpable".into(),
        Step::FindProgram { candidates } => {
            let candidates: Vec<_> = candidates.iter().map(shown).collect();
            format!("find the program among {candidates:?}")
        }
        Step::Ready { wait: true } => "say ready, wait for the limits".into(),
        Step::Ready { wait: false } => "say ready".into(),
        Step::Gate { .. } => "wait for start".into(),
        Step::CloseOnExec { from } => format!("close fds from {from} on at execve"),
        Step::Execute { argv, .. } => {
            let argv: Vec<_> = argv.iter().map(shown).collect();
            format!("execute {argv:?}")
        }
        other => format!("{other:?}"),
    }
}

fn shown(text: &CString) -> String {
    text.to_string_lossy().into_owned()
}

fn param_words(param: &Param<Planned>) -> String {
    match param {
        Param::Flag(key) => shown(key),
        Param::Text(key, value) => format!("{}={}", shown(key), shown(value)),
    }
}

fn change_words(change: &MountAttributes) -> String {
    let mut words = Vec::new();
    if change.set != 0 {
        words.push(format!("set {}", attribute_words(change.set)));
    }
    if change.clear != 0 {
        words.push(format!("clear {}", attribute_words(change.clear)));
    }
    let propagation = [
        (17, "unbindable"),
        (18, "private"),
        (19, "slave"),
        (20, "shared"),
    ];
    for (bit, name) in propagation {
        if change.propagation >> bit & 1 == 1 {
            words.push(name.to_owned());
        }
    }
    if change.recursive {
        words.push("recursively".into());
    }
    words.join(" ")
}

fn attribute_words(attributes: u64) -> String {
    let names = [
        (0x1, "ro"),
        (0x2, "nosuid"),
        (0x4, "nodev"),
        (0x8, "noexec"),
        (0x10, "noatime"),
        (0x20, "strictatime"),
        (0x80, "nodiratime"),
        (0x20_0000, "nosymfollow"),
    ];
    if attributes & 0x70 == 0x70 {
        let rest = attribute_words(attributes & !0x70);
        return [rest.as_str(), "atime"]
            .join(",")
            .trim_start_matches(',')
            .to_owned();
    }
    let name = |(bit, name): (u64, &'static str)| (attributes & bit != 0).then_some(name);
    names
        .into_iter()
        .filter_map(name)
        .collect::<Vec<_>>()
        .join(",")
}

fn source_words(source: &FdSource) -> String {
    match source {
        FdSource::Stream(number) => format!("stream {number}"),
        FdSource::Inherited(number) => format!("inherited fd {number}"),
        FdSource::Namespace { path, flag } => {
            format!("{} namespace {}", namespaces::name(*flag), path.display())
        }
        FdSource::InitPidfd => "pidfd of the init".into(),
        FdSource::InitRoot => "root of the init".into(),
        FdSource::Tree {
            path,
            recursive,
            changes,
            idmap,
            ..
        } => {
            let kind = if *recursive { "tree" } else { "mount" };
            let mut words = format!("clone of {kind} {}", path.display());
            for change in changes {
                words += &format!(", {}", change_words(change));
            }
            if let Some(maps) = idmap {
                words += &format!(", ids mapped {}", maps_words(maps));
            }
            words
        }
        FdSource::Gate => "gate".into(),
        FdSource::HostPath(path) => format!("path {}", path.display()),
    }
}

fn maps_words(maps: &IdMaps) -> String {
    let words = |ranges: &[super::IdRange]| {
        let range = |r: &super::IdRange| format!("{}:{}:{}", r.inside, r.outside, r.count);
        ranges.iter().map(range).collect::<Vec<_>>().join(",")
    };
    format!("uid {} gid {}", words(&maps.uid), words(&maps.gid))
}

fn mask_words(mask: &[u64]) -> String {
    let has = |bit: &usize| mask[bit / 64] >> (bit % 64) & 1 == 1;
    let bits = (0..mask.len() * 64).filter(has);
    bits.map(|bit| bit.to_string())
        .collect::<Vec<_>>()
        .join(",")
}

fn limit_words(limit: u64) -> String {
    match limit {
        u64::MAX => "unlimited".into(),
        limit => limit.to_string(),
    }
}

fn resource_words(resource: u32) -> String {
    const NAMES: [&str; 16] = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    match NAMES.get(resource as usize) {
        Some(name) => format!("rlimit {name}"),
        None => format!("rlimit {resource}"),
    }
}
