//! Kind of a failure in the core → code on the wire, every kind by name.
#![deny(clippy::wildcard_enum_match_arm)]

use rsrun_core::ErrorKind;
use ttrpc::Code;

/// The code that containerd is told.
pub fn of(kind: &ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument | ErrorKind::InvalidSpec { .. } => Code::INVALID_ARGUMENT,
        ErrorKind::NotFound { .. } => Code::NOT_FOUND,
        ErrorKind::AlreadyExists => Code::ALREADY_EXISTS,
        ErrorKind::WrongStatus { .. } => Code::FAILED_PRECONDITION,
        ErrorKind::Unsupported { .. } => Code::UNIMPLEMENTED,
        ErrorKind::Denied => Code::PERMISSION_DENIED,
        ErrorKind::Exhausted => Code::RESOURCE_EXHAUSTED,
        ErrorKind::Init { .. } | ErrorKind::Kernel { .. } => Code::UNKNOWN,
        ErrorKind::Timeout => Code::DEADLINE_EXCEEDED,
        ErrorKind::Cancelled => Code::CANCELLED,
        ErrorKind::Corrupt { .. } => Code::DATA_LOSS,
        ErrorKind::Internal => Code::INTERNAL,
    }
}
