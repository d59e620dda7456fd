//! Which files may output be appended to, and which programs may be started to log it?
//!
//! containerd forwards log URIs that come from labels of images (CVE-2026-53488: a label became
//! `binary:///bin/sh?-c=…`, run as root on the host). So neither is free: without a word of the operator only the
//! places and the programs below are allowed, which is what clients use. The operator adds to them in
//! `/etc/rsrun/stdio.conf` (another path by `RSRUN_STDIO_CONF` in containerd's environment), one rule per line:
//!
//! ```text
//! # files below this directory may be appended to
//! file /data/logs
//! # this program, or every program below this directory, may be a logger; * is every program
//! logger /opt/log/bin/forwarder
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rsrun_core::{Error, ErrorKind, Result};

use super::uri::LoggerUri;

const CONFIG: &str = "/etc/rsrun/stdio.conf";
/// Names another file than that.
pub const CONFIG_VARIABLE: &str = "RSRUN_STDIO_CONF";

/// Places where clients put logs of containers.
const FILES: [&str; 6] = [
    "/var/log",
    "/var/lib/nerdctl",
    "/var/tmp",
    "/tmp",
    "/run",
    "/srv",
];
/// Places below these where a file is obeyed by the host.
const NEVER: [&str; 3] = ["/run/systemd", "/run/udev", "/run/tmpfiles.d"];
/// Loggers by name, with the first argument that makes them one: nerdctl with another is a client of
/// containerd, which can do anything.
const LOGGERS: [(&str, Option<&str>); 2] = [
    ("nerdctl", Some("_NERDCTL_INTERNAL_LOGGING")),
    ("shim-loggers-for-containerd", None),
];

/// What is allowed.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    files: Vec<PathBuf>,
    loggers: Vec<PathBuf>,
    any_logger: bool,
}

impl Policy {
    /// The defaults and the operator's additions.
    pub fn load() -> Result<Self> {
        let path = std::env::var_os(CONFIG_VARIABLE).map_or_else(|| CONFIG.into(), PathBuf::from);
        match fs::read_to_string(&path) {
            Ok(text) => {
                Self::parse(&text).map_err(|error| error.during(format!("read {}", path.display())))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(
                Error::new(ErrorKind::Denied, format!("read {}", path.display())).caused_by(error),
            ),
        }
    }

    /// The defaults and the rules of `text`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut policy = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let rule = line.split_once(char::is_whitespace);
            match rule.map(|(word, place)| (word, place.trim_start())) {
                Some(("logger", "*")) => policy.any_logger = true,
                Some(("logger", path)) if path.starts_with('/') => policy.loggers.push(path.into()),
                Some(("file", path)) if path.starts_with('/') => policy.files.push(path.into()),
                _ => {
                    return Err(Error::invalid(format!(
                        "line {}: expected \"file /PATH\", \"logger /PATH\" or \"logger *\", found {line:?}",
                        index + 1
                    )));
                }
            }
        }
        Ok(policy)
    }

    /// Whether output may be appended to the file at `real`, a path without links.
    pub fn allow_file(&self, real: &Path) -> Result<()> {
        let below = |place: &str| real.starts_with(place);
        let default =
            FILES.iter().any(|place| below(place)) && !NEVER.iter().any(|place| below(place));
        if default || self.files.iter().any(|place| real.starts_with(place)) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Denied,
            format!(
                "output may not be written to {}: allow it with a line \"file DIRECTORY\" in {CONFIG}",
                real.display()
            ),
        ))
    }

    /// Whether this program may be started with these arguments.
    pub fn allow_logger(&self, uri: &LoggerUri) -> Result<()> {
        if self.any_logger || self.loggers.iter().any(|place| uri.path.starts_with(place)) {
            return Ok(());
        }
        let name = uri.path.file_name();
        let known = LOGGERS.iter().any(|(logger, first)| {
            name.is_some_and(|name| name == *logger)
                && first.is_none_or(|first| uri.args.first().is_some_and(|arg| arg == first))
        });
        if !known {
            return Err(Error::new(
                ErrorKind::Denied,
                format!(
                    "{} with these arguments is not a known logger: allow it with a line \"logger {}\" in {CONFIG}",
                    uri.path.display(),
                    uri.path.display()
                ),
            ));
        }
        only_root_writes(&uri.path)
    }
}

/// A name says nothing where others than root can place a program of that name.
fn only_root_writes(path: &Path) -> Result<()> {
    let fail = |path: &Path, error: io::Error| {
        Error::new(
            ErrorKind::InvalidArgument,
            format!("find logger {}", path.display()),
        )
        .caused_by(error)
    };
    let real = fs::canonicalize(path).map_err(|error| fail(path, error))?;
    let us = nix::unistd::geteuid().as_raw();
    for place in real.ancestors().chain(path.ancestors().skip(1)) {
        let stat = fs::metadata(place).map_err(|error| fail(place, error))?;
        if (stat.uid() != 0 && stat.uid() != us) || stat.mode() & 0o022 != 0 {
            return Err(Error::new(
                ErrorKind::Denied,
                format!(
                    "logger {}: others than root can write to {}: allow it with a line \"logger {}\" in {CONFIG}",
                    path.display(),
                    place.display(),
                    path.display()
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::uri::{self, Place};

    fn logger(text: &str) -> LoggerUri {
        match uri::stdout(text).unwrap() {
            Place::Logger(uri) => uri,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_shell_or_a_client_from_a_label_is_not_started() {
        let policy = Policy::default();
        for text in [
            "binary:///bin/sh?-c=id",
            "binary-v2:///bin/sh?-c=id",
            "binary:///usr/bin/nerdctl?run=--privileged",
            "binary:///usr/bin/nerdctl?run=&_NERDCTL_INTERNAL_LOGGING=/x",
            "binary:///usr/bin/nerdctl",
        ] {
            let error = policy.allow_logger(&logger(text)).unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::Denied, "{text}: {error}");
        }
    }

    #[test]
    fn a_known_name_where_everybody_writes_is_not_started() {
        let dir = tempdir("policy");
        let path = dir.join("nerdctl");
        fs::write(&path, "").unwrap();
        let uri = logger(&format!(
            "binary://{}?_NERDCTL_INTERNAL_LOGGING=/x",
            path.display()
        ));
        let error = Policy::default().allow_logger(&uri).unwrap_err();
        assert!(error.to_string().contains("others than root"), "{error}");
        let listed = Policy::parse(&format!("logger {}", dir.display())).unwrap();
        listed.allow_logger(&uri).unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn files_that_the_host_obeys_are_refused_and_those_of_logs_are_not() {
        let policy = Policy::parse("# ours\n\n file  /data/logs \n").unwrap();
        for bad in [
            "/etc/cron.d/x",
            "/root/.ssh/authorized_keys",
            "/run/systemd/system/x.service",
            "/usr/bin/x",
            "/data/logsx",
            "/var/spool/cron/root",
            "/home/user/.ssh/authorized_keys",
            "/var/lib/kubelet/x",
        ] {
            assert!(policy.allow_file(Path::new(bad)).is_err(), "{bad}");
        }
        for good in ["/var/log/c/x.log", "/tmp/x", "/run/c/x", "/data/logs/a"] {
            policy.allow_file(Path::new(good)).unwrap();
        }
    }

    #[test]
    fn a_rule_that_is_not_understood_names_its_line() {
        let error = Policy::parse("file /a\nbinary /b").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        assert!(Policy::parse("file relative").is_err());
    }

    fn tempdir(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("rsrun-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }
}
