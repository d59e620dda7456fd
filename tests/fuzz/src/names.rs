//! Names of containers and execs, and stdio URIs: what is accepted can't climb, and is what it was written as.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rsrun_core::{ContainerId, ExecId};
use rsrun_shim::fuzzing::{Place, fifo_only, stdout};

/// See the module. The first byte says what the rest is.
pub fn check(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    match kind % 3 {
        0 => container(text),
        1 => exec(text),
        _ => uri(text),
    }
}

fn container(text: &str) {
    if let Ok(id) = ContainerId::parse(text) {
        assert_eq!(id.as_str(), text);
        names_one_file(text);
    }
}

fn exec(text: &str) {
    if let Ok(id) = ExecId::parse(text) {
        assert_eq!(id.to_string(), text);
        names_one_file(text);
    }
}

fn names_one_file(text: &str) {
    let mut parts = Path::new(text).components();
    let first = parts.next();
    assert!(
        matches!(first, Some(Component::Normal(name)) if name == text) && parts.next().is_none(),
        "{text:?} is no name of one file"
    );
    assert!(text.len() <= 255 && !text.contains('\0'));
}

/// A stdio URI of a request.
pub fn uri(text: &str) {
    let place = match stdout(text) {
        Ok(place) => place,
        Err(error) => {
            let said = error.to_string();
            assert!(said.contains("stdout"), "{said}: which stream?");
            assert!(said.len() < 2048, "an error of {} bytes", said.len());
            return;
        }
    };
    let is_fifo = matches!(place, Place::Nowhere | Place::Path(_));
    assert_eq!(fifo_only("stdin", text).is_ok(), is_fifo, "{text:?}");
    match place {
        Place::Nowhere => assert!(text.is_empty()),
        Place::Path(path) => {
            proper(&path);
            as_written("fifo", &path, &Place::Path(path.clone()));
        }
        Place::File(path) => {
            proper(&path);
            as_written("file", &path, &Place::File(path.clone()));
        }
        Place::Logger(logger) => {
            proper(&logger.path);
            let args = logger.args.iter().map(|arg| arg.as_bytes());
            assert!(args.clone().all(|arg| !arg.contains(&0)));
            assert!(args.map(<[u8]>::len).sum::<usize>() <= text.len());
        }
    }
}

fn proper(path: &Path) {
    assert!(path.is_absolute() && path.file_name().is_some());
    assert!(path.components().all(|part| part != Component::ParentDir));
    assert!(!path.as_os_str().as_bytes().contains(&0));
}

/// Print → parse: the path with every byte escaped is the same place.
fn as_written(scheme: &str, path: &Path, place: &Place) {
    let mut uri = format!("{scheme}://");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' => uri.push('/'),
            other => uri += &format!("%{other:02x}"),
        }
    }
    // Three letters for one byte may make it too long; nothing else is a reason.
    match stdout(&uri) {
        Ok(again) => assert_eq!(&again, place),
        Err(error) => assert!(uri.len() > 16 * 1024, "{uri}: {error}"),
    }
}
