//! The plans of what else is executed: hooks, and programs such as loggers.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Hooks, Process};
use rsrun_init::step::Step;

use super::draft::Draft;
use super::exec::{HookProgram, enter_namespaces, hook_inside};
use super::facts::{ContainerHooks, ExecFacts, ProcessPlan, ProgramWords};
use super::namespaces::CGROUP;
use super::process::Resolved;
use super::text::{entry, literal, text};
use super::{FdName, FdSource};
use crate::error::{Error, Result};
use crate::host::Host;

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
    Container(Box<Inside>),
}

/// The container that a hook runs in.
#[derive(Clone, Debug, PartialEq)]
pub struct Inside {
    /// Its process document: the hook runs with the same user, capabilities and confinement.
    pub process: Process,
    /// Its facts for exec.
    pub facts: ExecFacts,
    /// The host.
    pub host: Host,
}

/// The plan of a hook. The caller gives its state document as stream 0, and ends it after its time.
pub fn hook(hook: &Hook, place: &HookPlace, host: &Host) -> Result<ProcessPlan> {
    check(hook, "")?;
    let program = read(hook)?;
    match place {
        HookPlace::Host { bundle } => {
            let mut draft = Draft::default();
            draft.step(Step::ResetSignals);
            on_host(draft, bundle, program, host)
        }
        HookPlace::BeforePivot { bundle, namespaces } => {
            let mut draft = Draft::default();
            draft.step(Step::ResetSignals);
            draft.step(Step::Undumpable);
            enter_namespaces(&mut draft, *namespaces & !CGROUP);
            if *namespaces & CGROUP != 0 {
                // By the hook itself: with nsdelegate nobody outside of a cgroup namespace may be
                // born into a cgroup of it, and nobody of the container is there yet.
                let fd = draft.fd(FdSource::InitPidfd);
                draft.step(Step::JoinNamespace { fd, flag: CGROUP });
            }
            draft.root = Some(draft.fd(FdSource::InitRoot));
            on_host(draft, bundle, program, host)
        }
        HookPlace::Container(inside) => {
            hook_inside(program, &inside.process, &inside.facts, &inside.host)
        }
    }
}

fn read(hook: &Hook) -> Result<HookProgram> {
    let path = text("/path", hook.path())?;
    let texts = |given: &[String], place: &str| {
        let given = given.iter().enumerate();
        given
            .map(|(index, word)| text(&entry(place, index), word))
            .collect::<Result<Vec<_>>>()
    };
    let argv = match hook.args().as_deref() {
        None | Some([]) => vec![path.clone()],
        Some(args) => texts(args, "/args")?,
    };
    let env = hook.env().as_deref();
    Ok(HookProgram {
        env: env.map(|env| texts(env, "/env")).transpose()?,
        path,
        argv,
    })
}

fn on_host(mut draft: Draft, bundle: &Path, hook: HookProgram, host: &Host) -> Result<ProcessPlan> {
    draft.steps(host.open_files().map(|(soft, hard)| Step::Rlimit {
        resource: libc::RLIMIT_NOFILE,
        soft,
        hard,
    }));
    let streams = (0..3_u8).map(|n| (FdSource::Stream(n), i32::from(n)));
    // Only the hook's own environment: what the image or the daemon has in theirs is not for a
    // program with the host's privileges (CVE-2025-23266).
    let env = hook.env.unwrap_or_default();
    let bundle = text("", bundle)?;
    Ok(run(
        draft,
        bundle,
        hook.path,
        hook.argv,
        env,
        streams.collect(),
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
    for (index, variable) in hook.env().iter().flatten().enumerate() {
        let place = format!("{place}/env/{index}");
        text(&place, variable)?;
        if variable.find('=').is_none_or(|at| at == 0) {
            return Err(Error::spec(
                place,
                format!("{variable:?} is not a name, \"=\" and a value"),
            ));
        }
    }
    match hook.timeout() {
        Some(seconds) if seconds <= 0 => Err(Error::spec(
            format!("{place}/timeout"),
            format!("{seconds} is not greater than zero"),
        )),
        _ => Ok(()),
    }
}

/// The hooks of a spec, checked.
pub(super) fn of_spec(given: Option<&Hooks>, process: &Resolved) -> Result<ContainerHooks> {
    let Some(given) = given else {
        return Ok(ContainerHooks::default());
    };
    let read = |hooks: &Option<Vec<Hook>>, kind: &str| {
        let hooks = hooks.clone().unwrap_or_default();
        for (index, hook) in hooks.iter().enumerate() {
            check(hook, &format!("/hooks/{kind}/{index}"))?;
        }
        Ok::<_, Error>(hooks)
    };
    #[allow(deprecated, reason = "deprecated is not gone: OCI 1.3 still has it")]
    let prestart = given.prestart();
    Ok(ContainerHooks {
        prestart: read(prestart, "prestart")?,
        create_runtime: read(given.create_runtime(), "createRuntime")?,
        create_container: read(given.create_container(), "createContainer")?,
        start_container: with_env_of(process, read(given.start_container(), "startContainer")?),
        poststart: read(given.poststart(), "poststart")?,
        poststop: read(given.poststop(), "poststop")?,
    })
}

/// A startContainer hook without an environment gets the one of the container's program: not in the
/// specification, but what such hooks have come to expect of runc. They run confined as it does, so
/// nothing of the image reaches a program of the host.
fn with_env_of(process: &Resolved, mut hooks: Vec<Hook>) -> Vec<Hook> {
    let env = process.env.iter().map(|v| v.to_string_lossy().into_owned());
    let env: Vec<String> = env.collect();
    for hook in &mut hooks {
        if hook.env().is_none() {
            hook.set_env(Some(env.clone()));
        }
    }
    hooks
}
