//! What does a stdio string of a client mean? Pure: text in, a place or an error out.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rsrun_core::{Error, Result};

/// Longest string that is looked at; a path has at most 4096 bytes, arguments of loggers are short.
const LONGEST: usize = 16 * 1024;

/// Longest word that is taken for a scheme.
const LONGEST_SCHEME: usize = 64;

/// Where a stream goes to or comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: `/dev/null`.
    Nowhere,
    /// A fifo (or, without a scheme, a file that exists) at this path.
    Path(PathBuf),
    /// `file://`: appended to, made when missing.
    File(PathBuf),
    /// `binary://` and `binary-v2://`.
    Logger(LoggerUri),
}

/// A logging program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggerUri {
    /// The program.
    pub path: PathBuf,
    /// Key and first value of each query parameter, in the order of the URI; empty values left out.
    pub args: Vec<OsString>,
    /// What its readiness means.
    pub readiness: Readiness,
}

/// What is expected of a logger before its container is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// `binary`: a byte, or closing the descriptor, or its own end.
    ByteOrEnd,
    /// `binary-v2`: a byte.
    Byte,
}

/// The place of stdout, which decides for stderr too.
pub fn stdout(text: &str) -> Result<Place> {
    parse("stdout", text)
}

/// The place of a stream that can only be a fifo: stdin, and stderr beside a fifo.
pub fn fifo_only(stream: &str, text: &str) -> Result<Place> {
    match parse(stream, text)? {
        place @ (Place::Nowhere | Place::Path(_)) => Ok(place),
        Place::File(_) | Place::Logger(_) => Err(Error::invalid(format!(
            "{stream} {}: only the path of a fifo can be given here",
            shown(text)
        ))),
    }
}

fn parse(stream: &str, text: &str) -> Result<Place> {
    let fail = |why: &str| Error::invalid(format!("{stream} {}: {why}", shown(text)));
    if text.is_empty() {
        return Ok(Place::Nowhere);
    }
    if text.len() > LONGEST {
        return Err(fail("it is longer than 16 KiB"));
    }
    if text.contains('\0') {
        return Err(fail("it contains a NUL"));
    }
    let Some((scheme, rest)) = split_scheme(text) else {
        return absolute(text.into()).map(Place::Path).map_err(fail);
    };
    if !matches!(scheme, "fifo" | "file" | "binary" | "binary-v2") {
        return Err(Error::invalid(format!(
            "unknown STDIO scheme {scheme} of {stream} {}",
            shown(text)
        )));
    }
    let (raw_path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, query),
        None => (rest, ""),
    };
    if rest.contains('#') {
        return Err(fail("a fragment (#) is not supported, write %23 in a path"));
    }
    if !raw_path.starts_with('/') {
        return Err(fail("after the scheme and // an absolute path is expected"));
    }
    let path = decode(raw_path, Plus::Literal)
        .and_then(absolute)
        .map_err(fail)?;
    match scheme {
        "binary" | "binary-v2" => Ok(Place::Logger(LoggerUri {
            path,
            args: arguments(query).map_err(fail)?,
            readiness: if scheme == "binary" {
                Readiness::ByteOrEnd
            } else {
                Readiness::Byte
            },
        })),
        _ if !query.is_empty() => Err(fail("this scheme takes no query parameters")),
        "file" => Ok(Place::File(path)),
        _ => Ok(Place::Path(path)),
    }
}

/// `scheme://rest`, by RFC 3986's letters for a scheme; a path may well contain a colon.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    // Errors quote it.
    if scheme.len() > LONGEST_SCHEME {
        return None;
    }
    let mut letters = scheme.chars();
    let proper = letters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && letters.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    proper.then_some((scheme, rest))
}

/// A path that can't be read in two ways: absolute, and without `..`.
fn absolute(path: OsString) -> std::result::Result<PathBuf, &'static str> {
    let path = PathBuf::from(path);
    if !path.is_absolute() {
        return Err("it is not an absolute path");
    }
    if has_parent(&path) {
        return Err("its path contains ..");
    }
    if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err("its path names a directory");
    }
    Ok(path)
}

fn has_parent(path: &Path) -> bool {
    path.components().any(|c| c == Component::ParentDir)
}

fn arguments(query: &str) -> std::result::Result<Vec<OsString>, &'static str> {
    let mut keys: Vec<OsString> = Vec::new();
    let mut args = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = decode(key, Plus::Space)?;
        let value = decode(value, Plus::Space)?;
        if keys.contains(&key) {
            continue;
        }
        keys.push(key.clone());
        args.push(key);
        if !value.is_empty() {
            args.push(value);
        }
    }
    Ok(args)
}

/// What a `+` stands for: itself in a path, a space in a query.
#[derive(Clone, Copy)]
enum Plus {
    Literal,
    Space,
}

fn decode(text: &str, plus: Plus) -> std::result::Result<OsString, &'static str> {
    const BAD: &str = "a % is not followed by two hexadecimal digits";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match (byte, plus) {
            (b'%', _) => {
                let high = rest.next().and_then(hex_digit).ok_or(BAD)?;
                let low = rest.next().and_then(hex_digit).ok_or(BAD)?;
                high << 4 | low
            }
            (b'+', Plus::Space) => b' ',
            _ => byte,
        };
        if decoded == 0 {
            return Err("it contains a NUL");
        }
        bytes.push(decoded);
    }
    Ok(OsString::from_vec(bytes))
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// The string as an error shows it: quoted, and not longer than a line.
fn shown(text: &str) -> String {
    let start: String = text.chars().take(200).collect();
    if start.len() < text.len() {
        format!("{start:?}…")
    } else {
        format!("{start:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logger(text: &str) -> LoggerUri {
        match stdout(text).unwrap() {
            Place::Logger(uri) => uri,
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn an_empty_string_is_nowhere_and_a_path_is_a_fifo() {
        assert_eq!(stdout("").unwrap(), Place::Nowhere);
        for text in ["/run/a:b/f", "fifo:///run/a:b/f", "fifo:///run/a%3ab/f"] {
            assert_eq!(stdout(text).unwrap(), Place::Path("/run/a:b/f".into()));
            assert!(fifo_only("stderr", text).is_ok());
        }
    }

    #[test]
    fn an_unknown_scheme_is_named() {
        let error = stdout("ttrpc+unix:///run/s.sock?streaming_id=1").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("unknown STDIO scheme ttrpc+unix"),
            "{error}"
        );
    }

    #[test]
    fn parameters_become_arguments_key_then_first_value() {
        let uri = logger("binary:///usr/bin/log%20it?b=2&a=&b=3&c=x+y%26z&d");
        assert_eq!(uri.path, Path::new("/usr/bin/log it"));
        assert_eq!(uri.args, ["b", "2", "a", "c", "x y&z", "d"]);
        assert_eq!(uri.readiness, Readiness::ByteOrEnd);
        assert_eq!(logger("binary-v2:///l").readiness, Readiness::Byte);
    }

    #[test]
    fn strings_that_could_mean_something_else_are_refused_with_the_reason() {
        for (text, reason) in [
            ("relative", "not an absolute path"),
            ("/a/../b", "contains .."),
            ("file:///a/%2e%2e/b", "contains .."),
            ("file://host/a", "absolute path is expected"),
            ("file://", "absolute path is expected"),
            ("file:///", "names a directory"),
            ("file:///a/", "names a directory"),
            ("file:///a?x=1", "takes no query"),
            ("file:///a#x", "fragment"),
            ("file:///a%zz", "hexadecimal"),
            ("file:///a%0", "hexadecimal"),
            ("file:///a%00", "NUL"),
            ("/a\0b", "NUL"),
            ("binary://nerdctl?x=y", "absolute path is expected"),
            ("binary:///l?x=%00", "NUL"),
        ] {
            let error = stdout(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(stdout(&format!("/{}", "a".repeat(LONGEST))).is_err());
    }

    #[test]
    fn only_a_fifo_can_be_stdin() {
        assert!(fifo_only("stdin", "file:///a").is_err());
        assert!(fifo_only("stdin", "binary:///a").is_err());
    }

    #[test]
    fn every_text_gives_an_answer() {
        use proptest::prelude::*;
        proptest!(|(text in "(binary|file|fifo|x)?(://)?[/%a.?&=+#:0-9\u{0}é]{0,40}")| {
            let _ = stdout(&text);
        });
    }
}
