//! How a text of the spec becomes a C string or a clean path, and what is said when it can't.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// The text as the kernel takes it; `pointer` names its place when it holds a NUL byte.
pub(super) fn text(pointer: &str, value: impl AsRef<OsStr>) -> Result<CString> {
    CString::new(value.as_ref().as_bytes())
        .map_err(|_| Error::spec(pointer, "the text contains a NUL byte"))
}

/// A text of our own, which holds no NUL byte.
pub(super) fn literal(value: &str) -> CString {
    CString::new(value.replace('\0', "")).unwrap_or_default()
}

/// A path inside the container as an absolute one without `.` and `..`, as if `/` were its working
/// directory. What symbolic links make of it is found out below the root descriptor.
pub(super) fn inside(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// The pointer to entry `index` of the array at `pointer`.
pub(super) fn entry(pointer: &str, index: usize) -> String {
    format!("{pointer}/{index}")
}

/// A key as a part of a JSON pointer (RFC 6901).
pub(super) fn key(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_inside_never_leaves_the_root() {
        for (given, clean) in [
            ("proc", "/proc"),
            ("//proc/.", "/proc"),
            ("/a/../../b", "/b"),
            ("..", "/"),
            ("", "/"),
        ] {
            assert_eq!(inside(Path::new(given)), Path::new(clean), "{given}");
        }
    }

    #[test]
    fn a_nul_byte_is_refused_with_its_place() {
        let error = text("/process/args/0", "a\0b").unwrap_err();
        assert_eq!(
            error.to_string(),
            "/process/args/0: the text contains a NUL byte"
        );
    }
}
