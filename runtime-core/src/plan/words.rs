//! A plan in words: for `--explain`, and for the errors that name a step.

use std::ffi::CString;
use std::fmt::Write;

use rsrun_init::step::{MountAttributes, Param, Step};

use super::value_words::{
    attribute_words, change_words, limit_words, maps_words, mask_words, resource_words,
    source_words,
};
use super::{
    ContainerPlan, FdName, FdSource, IdMaps, Plan, PlanStep, Planned, capabilities, namespaces,
};
use crate::cgroup::{Changes, Value};

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

/// All of a container's creation: its cgroup at `path` with these limits, the init, the hooks.
#[must_use]
pub fn explain_container(plan: &ContainerPlan, path: &str, limits: &Changes) -> String {
    let mut text = String::new();
    line(&mut text, "cgroup", &format!("make {path}"));
    if let Some(owner) = plan.cgroup.owner {
        line(&mut text, "cgroup", &format!("give it to uid {owner}"));
    }
    for write in &limits.writes {
        let value = match &write.value {
            Value::Text(value) => value.clone(),
            Value::AfterFirstWord(rest) => format!("… {rest}"),
        };
        line(
            &mut text,
            "cgroup",
            &format!("write {value:?} to {}", write.file),
        );
    }
    let rules = plan.cgroup.devices.len();
    line(
        &mut text,
        "cgroup",
        &format!("allow devices by {rules} rules"),
    );
    text.push_str(&explain(&plan.init));
    let hooks = &plan.hooks;
    for (kind, hooks) in [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ] {
        for hook in hooks {
            line(
                &mut text,
                "hook",
                &format!("{kind} {}", hook.path().display()),
            );
        }
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

/// A step of this plan in words, with what its descriptors are: `mount /srv on /data`.
#[must_use]
pub fn words_in(plan: &Plan, step: &PlanStep) -> String {
    let source = |name: &FdName| plan.fds.get(name.0);
    match step {
        Step::AttachTree { tree, target } => match source(tree) {
            Some(FdSource::Tree { path, .. }) => {
                format!("mount {} on {}", path.display(), shown(target))
            }
            _ => step_words(step),
        },
        Step::AttachRoot { tree, .. } => match source(tree) {
            Some(FdSource::Tree { path, .. }) => format!("attach the root {}", path.display()),
            _ => step_words(step),
        },
        Step::JoinNamespace { fd, flag } => match source(fd) {
            Some(FdSource::Namespace { path, .. }) => {
                format!(
                    "join {} namespace {}",
                    namespaces::name(*flag),
                    path.display()
                )
            }
            _ => step_words(step),
        },
        Step::PlaceFd { fd, to, .. } => match source(fd) {
            Some(source) => format!("place {} as fd {to}", source_words(source)),
            None => step_words(step),
        },
        other => step_words(other),
    }
}

/// One step without its plan: `mount proc on /proc`.
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
        Step::LoopbackUp => "set the loopback interface up".into(),
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
        Step::AttachRoot { tree, .. } => format!("attach the root [{}]", tree.0),
        Step::OpenRoot => "open the root".into(),
        Step::MountFilesystem {
            fstype,
            source,
            params,
            flags,
            target,
            copy_up,
            after,
            becomes_proc,
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
            if *becomes_proc {
                words += ", and use it";
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
