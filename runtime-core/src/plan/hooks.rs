//! The plans of what else is executed: hooks, and programs such as loggers.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Hook;
use rsrun_init::step::Step;

use super::draft::Draft;
use super::exec::enter_namespaces;
use super::facts::{ProcessPlan, ProgramWords};
use super::text::{entry, literal, text};
use super::{FdName, FdSource};
use crate::error::{Error, Result};

/// Where a hook runs.
#[derive(Clone, Debug, PartialEq)]
pub enum HookPlace {
    /// On the host, in `bundle`: prestart, createRuntime, poststart, poststop.
    Host {
        /// Its working directory.
        bundle: PathBuf,
    },
    /// In the container's namespaces, but still with the host's files: createContainer.
    BeforePivot {
        /// Its working directory.
        bundle: PathBuf,
        /// CLONE_NEW* bits of the container's namespaces.
        namespaces: u64,
    },
    /// In the container: startContainer.
    Container {
        /// CLONE_NEW* bits of the container's namespaces.
        namespaces: u64,
    },
}

/// The plan of a hook. The caller gives its state document as stream 0, and ends it after its time.
pub fn hook(hook: &Hook, place: &HookPlace) -> Result<ProcessPlan> {
    check(hook, "")?;
    let mut draft = Draft::default();
    draft.step(Step::ResetSignals);
    let (directory, namespaces) = match place {
        HookPlace::Host { bundle } => (bundle.as_path(), 0),
        HookPlace::BeforePivot { bundle, namespaces } => (bundle.as_path(), *namespaces),
        HookPlace::Container { namespaces } => (Path::new("/"), *namespaces),
    };
    if namespaces != 0 {
        draft.step(Step::Undumpable);
        enter_namespaces(&mut draft, namespaces);
    }
    if matches!(place, HookPlace::BeforePivot { .. }) {
        let root = draft.fd(FdSource::InitRoot);
        draft.root = Some(root);
    }
    let path = text("/path", hook.path())?;
    let texts = |given: &Option<Vec<String>>, place: &str| {
        let given = given.iter().flatten().enumerate();
        given
            .map(|(i, t)| text(&entry(place, i), t))
            .collect::<Result<Vec<_>>>()
    };
    let argv = match texts(hook.args(), "/args")? {
        args if args.is_empty() => vec![path.clone()],
        args => args,
    };
    let directory = text("", directory)?;
    let streams = (0..3)
        .map(|n| (FdSource::Stream(n), i32::from(n)))
        .collect();
    // Only the hook's own environment: what the image or the daemon has in theirs is not for a
    // program with the host's privileges (CVE-2025-23266).
    Ok(run(
        draft,
        directory,
        path,
        argv,
        texts(hook.env(), "/env")?,
        streams,
    ))
}

/// The plan of a program of the host, such as a logger: `fds` are placed by number, all else is
/// closed; streams that are not among them are `/dev/null`.
pub fn program(
    path: &Path,
    argv: &[String],
    env: &[String],
    fds: &[(FdSource, i32)],
) -> Result<ProcessPlan> {
    let mut draft = Draft::default();
    draft.step(Step::ResetSignals);
    let texts = |given: &[String]| {
        given
            .iter()
            .map(|t| text("", t))
            .collect::<Result<Vec<_>>>()
    };
    let placed = |number: i32| fds.iter().any(|(_, to)| *to == number);
    let missing = (0..3_u8).filter(|n| !placed(i32::from(*n)));
    let all = missing
        .map(|n| (FdSource::Stream(n), i32::from(n)))
        .chain(fds.iter().cloned())
        .collect();
    let (path, argv, env) = (text("", path)?, texts(argv)?, texts(env)?);
    Ok(run(draft, literal("/"), path, argv, env, all))
}

fn run(
    mut draft: Draft,
    directory: CString,
    path: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
    fds: Vec<(FdSource, i32)>,
) -> ProcessPlan {
    draft.step(Step::ResetInherited);
    draft.step(Step::Affinity { mask: Vec::new() });
    draft.step(Step::NewSession { terminal: false });
    draft.step(Step::OpenRoot);
    let placed: Vec<(FdName, i32)> = fds
        .into_iter()
        .map(|(source, to)| (draft.fd(source), to))
        .collect();
    let first_free = placed
        .iter()
        .map(|(_, to)| to + 1)
        .max()
        .unwrap_or(3)
        .max(3);
    for (fd, to) in placed {
        draft.step(Step::PlaceFd {
            fd,
            to,
            owner: None,
        });
    }
    draft.step(Step::Umask { mask: 0o022 });
    draft.step(Step::Cwd {
        path: directory,
        retry: false,
    });
    draft.step(Step::FindProgram {
        candidates: vec![path.clone()],
    });
    draft.step(Step::CloseOnExec {
        from: first_free.unsigned_abs(),
    });
    draft.step(Step::Execute { argv, env });
    ProcessPlan {
        program: ProgramWords {
            name: path.to_string_lossy().into_owned(),
            candidates: vec![path],
        },
        plan: draft.finish(),
        warnings: Vec::new(),
    }
}

/// What the specification asks of a hook.
pub(super) fn check(hook: &Hook, place: &str) -> Result<()> {
    text(&format!("{place}/path"), hook.path())?;
    if !hook.path().is_absolute() {
        return Err(Error::spec(
            format!("{place}/path"),
            format!("{:?} is not an absolute path", hook.path().display()),
        ));
    }
    match hook.timeout() {
        Some(seconds) if seconds <= 0 => Err(Error::spec(
            format!("{place}/timeout"),
            format!("{seconds} is not greater than zero"),
        )),
        _ => Ok(()),
    }
}
