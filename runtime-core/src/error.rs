//! What went wrong, as one opaque error with a kind that edges translate and a text that names the place.

use std::fmt;

/// Result of the core.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure: its kind, what was being done (outermost last), and the cause.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    text: String,
    context: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What sort of failure it is. Each edge maps every kind, exhaustively, to its own codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A bad id, option or request.
    InvalidArgument,
    /// config.json (or a process or resources document); `pointer` is the JSON pointer of the place.
    InvalidSpec {
        /// RFC 6901, `""` for the whole document.
        pointer: String,
    },
    /// No such container or exec, or the process is already gone.
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// The id is taken.
    AlreadyExists,
    /// The operation is not allowed in this status.
    WrongStatus {
        /// The status found.
        found: String,
        /// Those in which it is allowed.
        allowed: &'static str,
    },
    /// The kernel or the project lacks it; never silently ignored.
    Unsupported {
        /// What is lacking.
        feature: String,
    },
    /// EPERM or EACCES on the host.
    Denied,
    /// A limit was hit: pids.max, ENOSPC, EMFILE, ENOMEM, or the OOM killer.
    Exhausted,
    /// A step of the container's process failed.
    Init {
        /// The step in words.
        step: String,
        /// Why.
        errno: i32,
    },
    /// A bounded wait ran out.
    Timeout,
    /// The operation was given up because its container is being killed or deleted.
    Cancelled,
    /// A record that can't be read, or is of a newer version.
    Corrupt {
        /// Which file.
        path: String,
    },
    /// A system call failed in a way that no other kind names.
    Kernel {
        /// Why.
        errno: i32,
    },
    /// A bug of ours.
    Internal,
}

impl Error {
    /// A new error of this kind.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            text: text.into(),
            context: Vec::new(),
            source: None,
        }))
    }

    /// config.json is wrong at `pointer`.
    pub fn spec(pointer: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(
            ErrorKind::InvalidSpec {
                pointer: pointer.into(),
            },
            text,
        )
    }

    /// A request is wrong.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, text)
    }

    /// Something we refuse.
    pub fn unsupported(feature: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(
            ErrorKind::Unsupported {
                feature: feature.into(),
            },
            text,
        )
    }

    /// Something that is not there.
    pub fn not_found(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound { what: what.into() }, text)
    }

    /// A system call that failed; `call` as strace would print it, without the result.
    pub fn os(errno: nix::errno::Errno, call: impl fmt::Display) -> Self {
        Self::new(kind_of(errno), format!("{call}: {}", errno_text(errno)))
    }

    /// What sort of failure it is.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The same error with another kind: for callers who know what the errno meant here.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The same error, with its cause.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error, with what was being done around it.
    #[must_use]
    pub fn during(mut self, operation: impl Into<String>) -> Self {
        self.0.context.push(operation.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for operation in self.0.context.iter().rev() {
            write!(f, "{operation}: ")?;
        }
        match &self.0.kind {
            ErrorKind::InvalidSpec { pointer } if !pointer.is_empty() => {
                write!(f, "{pointer}: {}", self.0.text)?;
            }
            _ => f.write_str(&self.0.text)?,
        }
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// Adds what was being done to a failure on its way up.
pub trait Context<T> {
    /// The operation in words, made only when there is a failure.
    fn with<S: Into<String>>(self, operation: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn with<S: Into<String>>(self, operation: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| e.during(operation()))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn with<S: Into<String>>(self, operation: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::os(errno, operation().into()))
    }
}

/// The kind that an errno has when nothing more is known.
#[must_use]
pub fn kind_of(errno: nix::errno::Errno) -> ErrorKind {
    use nix::errno::Errno;
    match errno {
        Errno::EPERM | Errno::EACCES => ErrorKind::Denied,
        Errno::ENOSPC
        | Errno::EMFILE
        | Errno::ENFILE
        | Errno::ENOMEM
        | Errno::EAGAIN
        | Errno::EDQUOT => ErrorKind::Exhausted,
        Errno::ENOENT | Errno::ESRCH => ErrorKind::NotFound {
            what: "object of a system call".into(),
        },
        Errno::ENOSYS => ErrorKind::Unsupported {
            feature: "system call".into(),
        },
        other => ErrorKind::Kernel {
            errno: other as i32,
        },
    }
}

/// The C library's words for an errno, lower case as the errors of clients expect them
/// ("no such file or directory", "permission denied", "exec format error").
#[must_use]
pub fn errno_text(errno: nix::errno::Errno) -> String {
    errno.desc().to_lowercase()
}
