//! What of the shim reads bytes that others wrote: a door for the fuzzers in `tests/fuzz`, not part of any program.

use tokio::net::UnixStream;

use rsrun_core::sys::heap::UnforkedHeap;

pub use crate::args::{Args, parse as arguments};
pub use crate::bootstrap::{Call, Protocol, decode as bootstrap};
pub use crate::container::{CreateCall, ExecCall};
pub use crate::convert::{create_call, exec_call, resources};
pub use crate::failure::Failure;
pub use crate::io::uri::{LoggerUri, Place, fifo_only, stdout};
pub use crate::mounts::options::Options as MountOptions;
pub use crate::mounts::overlay::Overlay;
pub use crate::options::Options as RuntimeOptions;
pub use crate::task::frame::{
    is_oversized, receive_header, receive_payload, send_request, send_response,
};
pub use crate::task::{Method, method};

use crate::event::Outbox;
use crate::sandbox::Sandbox;
use crate::task::connection::{self, Limits};

static UNUSED: UnforkedHeap = UnforkedHeap::new();

/// Serves one connection, with no container there, until its peer has closed it. Not for a stream with a Create
/// in it, which would do what it says.
pub async fn serve(stream: UnixStream) {
    let outbox = Outbox::new(String::new(), "fuzz".to_owned());
    let sandbox = Sandbox::new("fuzz".to_owned(), "fuzz".to_owned(), outbox, &UNUSED);
    connection::serve(stream, sandbox, Limits::default().into()).await;
}
