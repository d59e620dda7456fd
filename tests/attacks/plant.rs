//! How does a hostile image come about? Links and files put into a bundle's root file system.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::containment::scene::Scene;
use serde_json::Value;

/// A link at `at` of the image, whatever was there.
pub(crate) fn link(b: &Bundle<'_>, at: &str, to: &str) -> PathBuf {
    let place = clear(b, at);
    symlink(to, &place).expect("a link");
    place
}

/// A file at `at` of the image, whatever was there.
pub(crate) fn file(b: &Bundle<'_>, at: &str, text: &str) -> PathBuf {
    let place = clear(b, at);
    fs::write(&place, text).expect("a file");
    place
}

/// A directory of the image.
pub(crate) fn dir(b: &Bundle<'_>, at: &str) -> PathBuf {
    let place = b.rootfs(at);
    fs::create_dir_all(&place).expect("a directory");
    place
}

fn clear(b: &Bundle<'_>, at: &str) -> PathBuf {
    let place = b.rootfs(at);
    if place.is_dir() && !place.is_symlink() {
        fs::remove_dir_all(&place).expect("removed");
    } else {
        let _ = fs::remove_file(&place);
    }
    fs::create_dir_all(place.parent().expect("a parent")).expect("a directory");
    place
}

/// Takes the mounts at and below `destination` out of the spec.
pub(crate) fn unmounted(b: &mut Bundle<'_>, destination: &str) {
    if let Some(mounts) = b.spec["mounts"].as_array_mut() {
        mounts.retain(|m| {
            !m["destination"]
                .as_str()
                .is_some_and(|d| d.starts_with(destination))
        });
    }
}

/// Ways in which a link leads to a name of the canary tree.
pub(crate) const WAYS: [(&str, Way); 3] = [
    ("an_absolute_link", |_, s, name| s.canary(name)),
    ("a_climbing_link", |_, s, name| s.climb(name)),
    ("a_chain_of_links", |b, s, name| {
        link(b, "/hop", "srv/../hop2");
        dir(b, "/srv");
        link(b, "/hop2", &s.canary(name));
        "/hop".into()
    }),
];

/// Gives what to write into a link.
pub(crate) type Way = fn(&Bundle<'_>, &Scene, &str) -> String;

/// Gives the container a capability in all sets that count.
pub(crate) fn capable(b: &mut Bundle<'_>, capability: &str) {
    for set in ["bounding", "effective", "permitted"] {
        b.set(
            &format!("/process/capabilities/{set}/-"),
            Value::from(capability),
        );
    }
}
