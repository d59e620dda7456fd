//! The rsrun container runtime as a library: an OCI bundle in, a container out.
//!
//! Sync; knows no tokio, no protobuf, no containerd. Everything that blocks takes a [`Cancel`].

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "I11: what tests lay out is theirs alone"
    )
)]

pub mod bundle;
pub mod cgroup;
pub mod container;
pub mod error;
pub mod features;
pub mod freeze;
pub mod host;
pub mod id;
pub mod launch;
pub mod passwd;
pub mod plan;
pub mod process;
pub mod seccomp;
pub mod stage;
pub mod store;
pub mod sys;

pub use container::{
    Container, Containers, CreateRequest, Created, ExecRequest, Started, Status, Streams,
};
pub use error::{Context, Error, ErrorKind, Result};
pub use id::{ContainerId, ExecId};
pub use process::{Cancel, Children, Exit, ProcessHandle};
