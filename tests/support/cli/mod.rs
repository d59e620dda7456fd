//! How do the suites drive a runc-compatible command line and look into its containers?

pub mod bundle;
pub mod facts;
pub mod ground;
pub mod oracle;
pub mod runtime;
pub mod sockets;
pub mod suite;
