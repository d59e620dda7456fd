//! `delete`: removes what is left of a container whose serving process is gone, or was only disconnected.
//!
//! containerd calls it after every normal Delete too, and waits: it is quick when nothing is left, succeeds
//! however little is left, and is silent.

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rsrun_core::container::Deleted;
use rsrun_core::{Cancel, ContainerId, Containers, Exit};

use crate::args::Args;
use crate::container::create::{STATE_ROOT_FILE, remove_half_written, write_atomic};
use crate::convert;
use crate::mounts;
use crate::options::Options;
use crate::socket;
use crate::spec;

/// What a container that did not end by itself is said to have ended with (128 + SIGKILL).
const KILLED: u32 = 137;

/// containerd gives us 5 s for everything.
const BUDGET: Duration = Duration::from_secs(4);

/// Then busy mounts are no longer waited for.
const FOR_MOUNTS: Duration = Duration::from_millis(3500);

/// Does it; an error only when something of the container may still be there.
pub fn run(args: &Args) -> Result<(), String> {
    let until = Instant::now() + FOR_MOUNTS;
    let id = ContainerId::parse(&args.id).map_err(|e| e.to_string())?;
    let bundle = bundle(args)?;
    let cancel = Cancel::new().map_err(|e| e.to_string())?;
    give_up_after(BUDGET, cancel.clone());
    let root = state_root(&bundle, &args.ctr_ns);
    let store = Containers::open(&root).map_err(|e| e.to_string())?;
    let deleted = store
        .force_delete(&id, &cancel)
        .map_err(|e| format!("delete {id}: {e}"))?;
    for place in places_in(&bundle) {
        mounts::unmount_all_until(&place, until).map_err(|e| format!("delete {id}: {e}"))?;
    }
    clean_group(args, &store, (&bundle, &id), until, &cancel)?;
    remove_half_written(&bundle);
    store.leave();
    answer(&bundle, &deleted)
}

fn bundle(args: &Args) -> Result<PathBuf, String> {
    if !args.bundle.is_empty() {
        return Ok(PathBuf::from(&args.bundle));
    }
    let here = env::current_dir().map_err(|e| format!("working directory: {e}"))?;
    Ok(here.parent().unwrap_or(&here).join(&args.id))
}

/// Where the record is: as Create noted it, else where it is by default.
fn state_root(bundle: &Path, ctr_ns: &str) -> PathBuf {
    match fs::read(bundle.join(STATE_ROOT_FILE)) {
        Ok(root) if !root.is_empty() => PathBuf::from(std::ffi::OsString::from_vec(root)),
        _ => Options::default().state_root(ctr_ns),
    }
}

/// containerd ≥ 2.0 calls only for the first container of a pod when the serving process has died; then the rest
/// of the pod is ours to clean. While it lives, the others are none of our business, and neither is its socket;
/// it ends by itself if it has nothing: so does one whose `start` was killed as it came to its end.
fn clean_group(
    args: &Args,
    store: &Containers,
    (bundle, id): (&Path, &ContainerId),
    until: Instant,
    cancel: &Cancel,
) -> Result<(), String> {
    let group = spec::group_of(bundle, id.as_str()).unwrap_or_else(|_| id.to_string());
    if group != id.as_str() {
        return Ok(());
    }
    let path = socket_path(args, bundle, &group)?;
    let served = socket::shut_down(&path, &args.id)
        .map_err(|e| format!("ask who serves at {}: {e}", path.display()))?;
    if served {
        return Ok(());
    }
    socket::remove_dead(&path).map_err(|e| format!("remove socket {}: {e}", path.display()))?;
    for (name, container) in store.list().map_err(|e| e.to_string())? {
        let Ok(container) = container else { continue };
        if name == *id || container.record().group.as_deref() != Some(group.as_str()) {
            continue;
        }
        // Its own `delete` may come after this one and is still to tell its exit.
        if let Some(exit) = container.exit() {
            leave_exit(&container.record().bundle, &exit)?;
        }
        let rootfs_mounts = container.record().rootfs_mounts.clone();
        drop(container);
        clean_member(store, &name, &rootfs_mounts, until, cancel)?;
    }
    // A create that was killed before it wrote a record may have mounted all the same.
    for (name, bundle) in creates_beside(bundle) {
        if name != *id && spec::group_of(&bundle, name.as_str()).as_ref() == Ok(&group) {
            let root = state_root(&bundle, &args.ctr_ns);
            let store = Containers::open(&root).map_err(|e| e.to_string())?;
            clean_member(&store, &name, &places_in(&bundle), until, cancel)?;
        }
    }
    Ok(())
}

fn clean_member(
    store: &Containers,
    name: &ContainerId,
    places: &[PathBuf],
    until: Instant,
    cancel: &Cancel,
) -> Result<(), String> {
    store
        .force_delete(name, cancel)
        .map_err(|e| format!("delete {name}: {e}"))?;
    for place in places {
        mounts::unmount_all_until(place, until).map_err(|e| format!("delete {name}: {e}"))?;
    }
    Ok(())
}

/// Where a create mounts in its bundle: one that was killed may have left the layers that it was mapping.
fn places_in(bundle: &Path) -> [PathBuf; 2] {
    ["rootfs", "idmapped"].map(|name| bundle.join(name))
}

/// The bundles of the namespace for which a shim of ours has begun a create: that notes the state root before all else.
fn creates_beside(bundle: &Path) -> Vec<(ContainerId, PathBuf)> {
    let entries = bundle.parent().map(fs::read_dir);
    let entries = entries.and_then(Result::ok).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| {
        let id = ContainerId::parse(entry.file_name().to_str()?).ok()?;
        let is_ours = entry.path().join(STATE_ROOT_FILE).is_file();
        is_ours.then(|| (id, entry.path()))
    });
    named.collect()
}

/// Where the serving process of the bundle listens; if its `start` did not come to say so, where it would.
fn socket_path(args: &Args, bundle: &Path, group: &str) -> Result<PathBuf, String> {
    let noted = fs::read_to_string(bundle.join("address")).ok();
    let noted = noted.and_then(|text| Some(text.trim().strip_prefix("unix://")?.into()));
    match noted {
        Some(path) => Ok(path),
        None => socket::path(None, &args.address, &args.ctr_ns, group),
    }
}

/// The exit as it was recorded, if the container ended by itself.
fn answer(bundle: &Path, deleted: &Deleted) -> Result<(), String> {
    let pid = match deleted.pid {
        0 => fs::read_to_string(bundle.join("init.pid"))
            .ok()
            .and_then(|pid| pid.trim().parse().ok())
            .unwrap_or(0),
        pid => pid,
    };
    let exit = deleted.exit.or_else(|| left_exit(bundle));
    let (status, at) = exit.map_or((KILLED, SystemTime::now()), |exit| (exit.code, exit.at));
    let message = convert::bytes(&convert::deleted(pid, status, Some(at)));
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(&message)
        .and_then(|()| stdout.flush())
        .map_err(|e| format!("write the answer: {e}"))
}

/// The exit of a container whose record is gone, in its bundle.
pub const EXIT_FILE: &str = "rsrun-exit";

fn leave_exit(bundle: &Path, exit: &Exit) -> Result<(), String> {
    let text = serde_json::to_vec(exit).map_err(|e| e.to_string())?;
    match write_atomic(&bundle.join(EXIT_FILE), &text, 0o600) {
        Err(failure) if bundle.exists() => Err(failure.text),
        _ => Ok(()),
    }
}

fn left_exit(bundle: &Path) -> Option<Exit> {
    serde_json::from_slice(&fs::read(bundle.join(EXIT_FILE)).ok()?).ok()
}

fn give_up_after(limit: Duration, cancel: Cancel) {
    let timer = move || {
        std::thread::sleep(limit);
        cancel.trigger();
    };
    // Without a thread containerd's own limit holds.
    let _ = std::thread::Builder::new()
        .name("budget".into())
        .stack_size(64 << 10)
        .spawn(timer);
}
