//! What a process document asks for, and the steps that give it: from its streams to execve.

use std::ffi::CString;
use std::path::Path;

use oci_spec::runtime::{PosixRlimitType, Process};
use rsrun_init::step::Step;

use super::capabilities::Sets;
use super::draft::Draft;
use super::facts::{ProcessDefaults, ProgramWords, SeccompProgram};
use super::scheduling;
use super::text::{entry, literal, text};
use super::{FdSource, PlanStep, environment, labels};
use crate::error::{Error, Result};
use crate::host::Host;

/// umask where the spec has none (runc: since 1.1 the value is fixed, not inherited).
const DEFAULT_UMASK: u32 = 0o022;

/// Size of a terminal, when the process has one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Terminal {
    pub(super) rows: u16,
    pub(super) columns: u16,
}

/// A process document, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Resolved {
    pub(super) argv: Vec<CString>,
    pub(super) env: Vec<CString>,
    pub(super) cwd: CString,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) umask: u32,
    pub(super) rlimits: Vec<(u32, u64, u64)>,
    pub(super) capabilities: Sets,
    pub(super) no_new_privileges: bool,
    /// AppArmor's: file below `self/attr` and what is written into it.
    pub(super) apparmor: Option<(CString, CString)>,
    /// SELinux's.
    pub(super) selinux: Option<CString>,
    pub(super) scheduling: Vec<PlanStep>,
    pub(super) terminal: Option<Terminal>,
    pub(super) program: ProgramWords,
    pub(super) warnings: Vec<String>,
}

/// How a plan ends: behind a gate, or at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Ready, then the gate.
    Gate,
    /// Ready, then the program.
    Ready,
    /// The program.
    AtOnce,
}

/// Where a process document lies in the document that it came with: `/process` or the whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    pub(super) place: &'a str,
    pub(super) terminal: Option<bool>,
    pub(super) home: Option<&'a str>,
}

impl Resolved {
    /// Checks the document and fills in what it leaves out.
    pub(super) fn read(
        process: &Process,
        defaults: &ProcessDefaults,
        origin: &Origin<'_>,
        host: &Host,
    ) -> Result<Self> {
        let place = origin.place;
        nothing_of_windows(process, place)?;
        let mut warnings = Vec::new();
        let argv = argv_of(process, place)?;
        let env = environment::environment(process, origin)?;
        let capabilities = match process.capabilities() {
            Some(given) => {
                let place = format!("{place}/capabilities");
                Sets::read(given, host.last_capability, &place, &mut warnings)?
            }
            None => defaults.capabilities.unwrap_or_default(),
        };
        let mut rlimits = match rlimits_of(process, place)? {
            limits if limits.is_empty() => defaults.rlimits.clone(),
            limits => limits,
        };
        let is_of_files = |(resource, ..): &(u32, u64, u64)| *resource == libc::RLIMIT_NOFILE;
        if !rlimits.iter().any(is_of_files) {
            let ours = host.open_files();
            rlimits.extend(ours.map(|(soft, hard)| (libc::RLIMIT_NOFILE, soft, hard)));
        }
        let user = process.user();
        let groups = user.additional_gids().clone().unwrap_or_default();
        check_ids(user.uid(), user.gid(), &groups, place)?;
        let program = environment::program_words(&argv, &env);
        Ok(Self {
            cwd: working_directory(process, place)?,
            uid: user.uid(),
            gid: user.gid(),
            groups,
            umask: umask_of(process, defaults, place)?,
            rlimits,
            capabilities,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            apparmor: labels::apparmor(process, defaults, place, host)?,
            selinux: labels::selinux(process, defaults, place, host)?,
            scheduling: scheduling::of_process(process, defaults, place)?,
            terminal: terminal_of(process, origin),
            program,
            argv,
            env,
            warnings,
        })
    }

    /// Fd 0, 1 and 2, where they are not a terminal.
    pub(super) fn place_streams(&self, draft: &mut Draft) {
        if self.terminal.is_some() {
            return;
        }
        for stream in 0..3_u8 {
            let fd = draft.fd(FdSource::Stream(stream));
            draft.step(Step::PlaceFd {
                fd,
                to: i32::from(stream),
                owner: Some(self.uid),
            });
        }
    }

    /// Hard limits above ours: the parent raises them, as the child may not.
    pub(super) fn raised(&self, host: &Host) -> Vec<(u32, u64)> {
        let above = |(resource, _, hard): &(u32, u64, u64)| {
            let ours = host.hard_limit(*resource);
            (ours.is_some_and(|ours| *hard > ours)).then_some((*resource, *hard))
        };
        self.rlimits.iter().filter_map(above).collect()
    }

    /// Everything from the umask to execve.
    pub(super) fn finish(self, draft: &mut Draft, ending: Ending, end: &End<'_>) {
        draft.step(Step::Umask { mask: self.umask });
        draft.steps(end.scheduling.iter().cloned());
        draft.steps(self.scheduling);
        for (resource, soft, hard) in self.rlimits {
            draft.step(Step::Rlimit {
                resource,
                soft,
                hard,
            });
        }
        if let Some((file, value)) = self.apparmor {
            draft.step(Step::Label { file, value });
        }
        if let Some(value) = self.selinux {
            let file = literal("exec");
            draft.step(Step::Label { file, value });
        }
        // Before the ids change, as root may enter what the user may not; after, as the user may
        // enter what a mapped root may not (NFS, FUSE). One of both has to work.
        draft.step(Step::Cwd {
            path: self.cwd.clone(),
            retry: true,
        });
        draft.step(Step::BoundingSet {
            keep: self.capabilities.bounding,
        });
        draft.step(Step::Identity {
            uid: self.uid,
            gid: self.gid,
            groups: self.groups,
        });
        draft.step(Step::Cwd {
            path: self.cwd,
            retry: false,
        });
        draft.step(Step::FindProgram {
            candidates: self.program.candidates,
        });
        let capabilities = Step::Capabilities(self.capabilities.last());
        let filter = end.seccomp.map(|program| Step::Seccomp {
            filter: program.lines.clone(),
            flags: program.flags,
            listener: program.listener.is_some(),
        });
        let confine = |draft: &mut Draft| {
            // Before the filter, which may deny it. An open host directory is an escape
            // (CVE-2024-21626).
            draft.step(Step::CloseOnExec { from: 3 });
            for number in (3..).take(end.preserve_fds as usize) {
                let fd = draft.fd(FdSource::Inherited(number));
                draft.step(Step::KeepFd { fd });
            }
            if self.no_new_privileges {
                // The filter needs no privilege then and comes last: it sees execve only.
                draft.steps([Step::NoNewPrivileges, capabilities]);
                draft.steps(filter);
            } else {
                draft.steps(filter);
                draft.step(capabilities);
            }
        };
        // A listener is handed over by the parent of the launch, who may be gone at start: such a
        // filter is loaded before Ready.
        let early = end
            .seccomp
            .is_some_and(|program| program.listener.is_some());
        if early {
            confine(draft);
            ending.write(draft);
        } else {
            ending.write(draft);
            confine(draft);
        }
        draft.step(Step::Execute {
            argv: self.argv,
            env: self.env,
        });
    }
}

impl Ending {
    fn write(self, draft: &mut Draft) {
        match self {
            Self::Gate => {
                draft.step(Step::Ready { wait: true });
                let fifo = draft.fd(FdSource::Gate);
                draft.step(Step::Gate { fifo });
            }
            Self::Ready => draft.step(Step::Ready { wait: true }),
            // Nobody is to be told before execve, which the parent sees by the socket's end: what fails
            // after a Ready would pass for an exit of the program.
            Self::AtOnce => {}
        }
    }
}

/// What the end of a plan needs beyond the process document.
pub(super) struct End<'a> {
    pub(super) seccomp: Option<&'a SeccompProgram>,
    pub(super) preserve_fds: u32,
    /// Settings of the container that hold for each of its processes.
    pub(super) scheduling: Vec<PlanStep>,
}

/// Left out silently they would be a process of root, or none that was meant.
fn nothing_of_windows(process: &Process, place: &str) -> Result<()> {
    let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    if given(process.user().username()) {
        return Err(Error::spec(
            format!("{place}/user/username"),
            "names of users are for Windows; uid and gid say who the process is",
        ));
    }
    if given(process.command_line()) {
        return Err(Error::spec(
            format!("{place}/commandLine"),
            "command lines are for Windows; args say what the process executes",
        ));
    }
    Ok(())
}

/// (uid_t)-1 means "leave it" to the kernel: whoever asks for it would stay root.
fn check_ids(uid: u32, gid: u32, groups: &[u32], place: &str) -> Result<()> {
    let of_groups = |(index, group): (usize, &u32)| (format!("additionalGids/{index}"), *group);
    let all = [("uid".to_owned(), uid), ("gid".to_owned(), gid)];
    let mut all = all
        .into_iter()
        .chain(groups.iter().enumerate().map(of_groups));
    if let Some((field, id)) = all.find(|(_, id)| *id == u32::MAX) {
        return Err(Error::spec(
            format!("{place}/user/{field}"),
            format!("{id} is no id"),
        ));
    }
    // NGROUPS_MAX
    match groups.len() {
        0..=65536 => Ok(()),
        count => Err(Error::spec(
            format!("{place}/user/additionalGids"),
            format!("{count} groups, the kernel takes 65536"),
        )),
    }
}

fn argv_of(process: &Process, place: &str) -> Result<Vec<CString>> {
    let place = format!("{place}/args");
    let args = process.args().as_deref().unwrap_or_default();
    match args.first() {
        None => return Err(Error::spec(place, "there is no program to run")),
        Some(name) if name.is_empty() => {
            return Err(Error::spec(
                entry(&place, 0),
                "the name of the program is empty",
            ));
        }
        Some(_) => {}
    }
    args.iter()
        .enumerate()
        .map(|(index, arg)| text(&entry(&place, index), arg))
        .collect()
}

fn working_directory(process: &Process, place: &str) -> Result<CString> {
    let place = format!("{place}/cwd");
    let cwd = process.cwd();
    if cwd.as_os_str().is_empty() {
        return Err(Error::spec(place, "Cwd property must not be empty"));
    }
    if !Path::is_absolute(cwd) {
        return Err(Error::spec(
            place,
            format!("Cwd must be an absolute path, {} is not", cwd.display()),
        ));
    }
    text(&place, cwd)
}

fn umask_of(process: &Process, defaults: &ProcessDefaults, place: &str) -> Result<u32> {
    match process.user().umask().or(defaults.umask) {
        None => Ok(DEFAULT_UMASK),
        Some(mask) if mask <= 0o777 => Ok(mask),
        Some(mask) => Err(Error::spec(
            format!("{place}/user/umask"),
            format!("{mask:#o} is not a umask"),
        )),
    }
}

/// A terminal when the caller says so, or the document where the caller says nothing.
fn terminal_of(process: &Process, origin: &Origin<'_>) -> Option<Terminal> {
    let wanted = origin.terminal.or(process.terminal()).unwrap_or(false);
    let side = |length: u64| u16::try_from(length).unwrap_or(u16::MAX);
    let size = process.console_size();
    wanted.then(|| Terminal {
        rows: size.map_or(0, |s| side(s.height())),
        columns: size.map_or(0, |s| side(s.width())),
    })
}

fn rlimits_of(process: &Process, place: &str) -> Result<Vec<(u32, u64, u64)>> {
    let mut limits: Vec<(u32, u64, u64)> = Vec::new();
    for (index, limit) in process.rlimits().iter().flatten().enumerate() {
        let place = format!("{place}/rlimits/{index}");
        let resource = resource_of(limit.typ());
        if limit.soft() > limit.hard() {
            return Err(Error::spec(place, "the soft limit is above the hard one"));
        }
        if limits.iter().any(|(known, ..)| *known == resource) {
            return Err(Error::spec(
                place,
                format!("{} is listed twice", limit.typ()),
            ));
        }
        limits.push((resource, limit.soft(), limit.hard()));
    }
    Ok(limits)
}

/// `RLIMIT_*` of `<asm-generic/resource.h>` (x86-64, arm64 and most others).
fn resource_of(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => 7,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    }
}
