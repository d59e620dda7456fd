//! The rsrun container runtime as a library.
