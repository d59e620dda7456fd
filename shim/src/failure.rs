//! What a request is answered with when it fails: a code that containerd and its clients act on, and a text that users see.

use std::fmt;

use ttrpc::Code;

use crate::status_code;

/// Result of a request.
pub type Result<T> = std::result::Result<T, Failure>;

/// A failed request.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Which of the codes; the rules that clients depend on are with each call.
    pub code: Code,
    /// Lower case, the cause at the end.
    pub text: String,
}

impl Failure {
    /// A failure of this code.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    /// No such container, exec, process, or nothing to signal any more.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(Code::NOT_FOUND, text)
    }

    /// A request that can't be meant.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(Code::INVALID_ARGUMENT, text)
    }

    /// A failure that no client tells from others.
    pub fn unknown(text: impl Into<String>) -> Self {
        Self::new(Code::UNKNOWN, text)
    }

    /// The same failure, with what was being done in front of its text.
    pub fn during(self, operation: impl fmt::Display) -> Self {
        Self {
            text: format!("{operation}: {}", self.text),
            ..self
        }
    }
}

impl Failure {
    /// The text with the words of its code at the end: clients of containerd 2 print nothing else, and
    /// what reads their output looks for these.
    pub fn shown(self) -> String {
        let words = match self.code {
            Code::NOT_FOUND => "not found",
            Code::ALREADY_EXISTS => "already exists",
            Code::FAILED_PRECONDITION => "failed precondition",
            Code::UNIMPLEMENTED => "not implemented",
            Code::INVALID_ARGUMENT => "invalid argument",
            _ => return self.text,
        };
        match self.text.contains(words) {
            true => self.text,
            false => format!("{}: {words}", self.text),
        }
    }
}

impl From<rsrun_core::Error> for Failure {
    fn from(error: rsrun_core::Error) -> Self {
        Self::new(status_code::of(error.kind()), error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
