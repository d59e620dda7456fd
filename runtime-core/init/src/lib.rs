//! The child of rsrun: what runs between clone and execve.
#![no_std]
