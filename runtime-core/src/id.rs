//! Names of containers and execs: the only place where they are validated.

use crate::error::{Error, Result};

/// Longest id that is accepted; runc takes 1024, a path component holds 255.
const LONGEST: usize = 255;

macro_rules! name_type {
    ($name:ident, $what:literal) => {
        #[doc = concat!("The name of ", $what, ": letters, digits and `_+-.`, at most 255, not `.` or `..`.")]
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Checks `text`; the error says what is wrong with it.
            pub fn parse(text: &str) -> Result<Self> {
                check(text, $what)?;
                Ok(Self(text.to_owned()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(ContainerId, "a container");
name_type!(ExecId, "an exec");

fn check(text: &str, what: &str) -> Result<()> {
    let shown: String = text.chars().take(64).collect();
    if text.is_empty() {
        return Err(Error::invalid(format!("invalid id of {what}: it is empty")));
    }
    if text.len() > LONGEST {
        return Err(Error::invalid(format!(
            "invalid id of {what} {shown:?}…: {} characters, at most {LONGEST} are allowed",
            text.len()
        )));
    }
    if text == "." || text == ".." {
        return Err(Error::invalid(format!(
            "invalid id of {what} {shown:?}: it names a directory"
        )));
    }
    if text.starts_with('-') {
        return Err(Error::invalid(format!(
            "invalid id of {what} {shown:?}: it begins like an option"
        )));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    match text.chars().find(|c| !allowed(*c)) {
        Some(c) => Err(Error::invalid(format!(
            "invalid id of {what} {shown:?}: character {c:?} is not allowed"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_leave_a_directory_are_refused() {
        for bad in [
            "", ".", "..", "a/b", "a/../b", "a\0b", "a b", "é", "a\n", "-a",
        ] {
            assert!(ContainerId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(ExecId::parse(&"a".repeat(256)).is_err());
    }

    #[test]
    fn ids_that_clients_use_are_accepted() {
        for good in ["a", "A-b_c.d+e", "...", &"f".repeat(255)] {
            assert_eq!(ContainerId::parse(good).unwrap().as_str(), good);
        }
    }
}
