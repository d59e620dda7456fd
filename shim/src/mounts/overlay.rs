//! An overlay of any number of layers: mount(2) takes one page of options, an image may have more.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use rsrun_core::sys::mount::{
    fs_message, fsconfig_create, fsconfig_flag, fsconfig_text, fsmount, fsopen, move_mount,
};
use rsrun_core::{Context, Error, Result};

use super::idmap::MappedLayers;
use super::options::Options;
use super::{Mount, text};

/// mount(2) copies one page; some of it is the kernel's own.
const ONE_PAGE: usize = 4096 - 512;

/// Longest value of one fsconfig(2).
const LONGEST_VALUE: usize = 255;

/// Mounts it on `target`; `root` is where the temporaries of id-mapped layers may be made beside.
pub fn mount(
    one: &Mount,
    options: &Options,
    target: &OwnedFd,
    root: &Path,
    mapping: Option<&OwnedFd>,
) -> Result<()> {
    let mut overlay = Overlay::parse(&options.data)?;
    // Held until the overlay has its own references to the layers.
    let _mapped = match mapping {
        None => None,
        Some(mapping) => {
            let mapped =
                MappedLayers::attach(&overlay.layers, mapping, &root.with_file_name("idmapped"))?;
            overlay.layers = mapped.paths();
            Some(mapped)
        }
    };
    let data = overlay.data();
    if data.len() < ONE_PAGE {
        let place = PathBuf::from(format!("/proc/self/fd/{}", target.as_raw_fd()));
        return nix::mount::mount(
            Some(one.source.as_str()),
            &place,
            Some("overlay"),
            options.flags,
            Some(data.as_str()),
        )
        .with(|| format!("mount(overlay, {data:?})"));
    }
    match overlay.mount_by_layer(&one.source, options, target) {
        Err(Unmounted::NoSuchKey) => overlay.mount_relative(&one.source, options, target),
        Err(Unmounted::Failed(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}

/// The options of an overlay, its layers apart.
#[derive(Debug)]
pub struct Overlay {
    layers: Vec<PathBuf>,
    rest: Vec<String>,
}

enum Unmounted {
    /// The kernel has no `lowerdir+` (before 6.7).
    NoSuchKey,
    Failed(Error),
}

impl Overlay {
    /// From the options that are no flags.
    pub fn parse(data: &[String]) -> Result<Self> {
        let (lower, rest): (Vec<_>, Vec<_>) = data
            .iter()
            .partition(|option| option.starts_with("lowerdir="));
        let layers = match lower.as_slice() {
            [one] => split_layers(one.trim_start_matches("lowerdir=")),
            _ => {
                return Err(Error::invalid(format!(
                    "an overlay needs one lowerdir option, not {}",
                    lower.len()
                )));
            }
        };
        Ok(Self {
            layers,
            rest: rest.into_iter().cloned().collect(),
        })
    }

    /// The options as mount(2) takes them.
    pub fn data(&self) -> String {
        self.data_with(&self.layers)
    }

    fn data_with(&self, layers: &[PathBuf]) -> String {
        let layers: Vec<_> = layers.iter().map(|layer| escaped(layer)).collect();
        let mut words = self.rest.clone();
        words.push(format!("lowerdir={}", layers.join(":")));
        words.join(",")
    }

    /// One fsconfig(2) for each layer: no limit but that of the kernel on layers (500).
    fn mount_by_layer(
        &self,
        source: &str,
        options: &Options,
        target: &OwnedFd,
    ) -> std::result::Result<(), Unmounted> {
        let failed = |e: Error| Unmounted::Failed(e);
        if !knows_its_options().map_err(failed)? {
            return Err(Unmounted::NoSuchKey);
        }
        let context = fsopen(c"overlay")
            .with(|| "fsopen(overlay)")
            .map_err(failed)?;
        let explained = |errno: Errno, what: String| {
            let why = fs_message(&context).map_or_else(String::new, |text| format!(": {text}"));
            Unmounted::Failed(Error::os(errno, format!("{what}{why}")))
        };
        let set = |key: &str, value: &str| {
            if value.len() > LONGEST_VALUE {
                return Err(Unmounted::NoSuchKey);
            }
            let (key_text, value_text) = (text(key).map_err(failed)?, text(value).map_err(failed)?);
            fsconfig_text(context.as_fd(), &key_text, &value_text)
                .map_err(|errno| explained(errno, format!("fsconfig({key}, {value})")))
        };
        for (index, layer) in self.layers.iter().enumerate() {
            match set("lowerdir+", &layer.display().to_string()) {
                Err(Unmounted::Failed(_)) if index == 0 => return Err(Unmounted::NoSuchKey),
                outcome => outcome?,
            }
        }
        set("source", source)?;
        for option in &self.rest {
            match option.split_once('=') {
                Some((key, value)) => set(key, value)?,
                None => {
                    let key: CString = text(option).map_err(failed)?;
                    fsconfig_flag(context.as_fd(), &key)
                        .map_err(|errno| explained(errno, format!("fsconfig({option})")))?;
                }
            }
        }
        fsconfig_create(context.as_fd())
            .map_err(|errno| explained(errno, "fsconfig(FSCONFIG_CMD_CREATE)".into()))?;
        let mount = fsmount(
            context.as_fd(),
            options.attributes().map_or(0, |attr| attr.attr_set),
        )
        .map_err(|errno| explained(errno, "fsmount()".into()))?;
        move_mount(mount.as_fd(), target.as_fd())
            .with(|| "move_mount(overlay)")
            .map_err(failed)
    }

    /// Before Linux 6.7: layers by names relative to their common parent, on a thread whose working directory that is.
    #[allow(
        clippy::disallowed_methods,
        reason = "on a thread of its own, whose working directory is unshared first"
    )]
    fn mount_relative(&self, source: &str, options: &Options, target: &OwnedFd) -> Result<()> {
        let parent = common_parent(&self.layers)
            .ok_or_else(|| Error::invalid("the layers of the overlay have no common directory"))?;
        let relative: Vec<PathBuf> = self
            .layers
            .iter()
            .filter_map(|layer| layer.strip_prefix(&parent).ok().map(Path::to_owned))
            .collect();
        let data = self.data_with(&relative);
        if data.len() >= 4096 {
            return Err(Error::invalid(format!(
                "the options of the overlay take {} bytes, this kernel takes one page",
                data.len()
            )));
        }
        let place = fs::read_link(format!("/proc/self/fd/{}", target.as_raw_fd()))
            .map_err(|e| super::io_error(&e, "readlink(/proc/self/fd)".into()))?;
        let mounted = std::thread::scope(|scope| {
            let body = || {
                unshare(CloneFlags::CLONE_FS).with(|| "unshare(CLONE_FS)")?;
                nix::unistd::chdir(&parent).with(|| format!("chdir({})", parent.display()))?;
                nix::mount::mount(
                    Some(source),
                    &place,
                    Some("overlay"),
                    options.flags,
                    Some(data.as_str()),
                )
                .with(|| format!("mount(overlay, {data:?})"))
            };
            scope.spawn(body).join()
        });
        mounted.unwrap_or_else(|_| {
            Err(Error::new(
                rsrun_core::ErrorKind::Internal,
                "the mounting thread panicked",
            ))
        })
    }
}

/// Before Linux 6.5 an overlay's context takes any option, all together in one page, and judges them in the end:
/// that `lowerdir+` was taken there means nothing.
fn knows_its_options() -> Result<bool> {
    let context = fsopen(c"overlay").with(|| "fsopen(overlay)")?;
    Ok(fsconfig_flag(context.as_fd(), c"no-such-option").is_err())
}

/// Layers are separated by colons; a backslash takes a colon's meaning away.
fn split_layers(text: &str) -> Vec<PathBuf> {
    let mut layers = vec![String::new()];
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, layers.last_mut()) {
            (':', _) => layers.push(String::new()),
            ('\\', Some(layer)) => layer.extend(characters.next()),
            (c, Some(layer)) => layer.push(c),
            (_, None) => {}
        }
    }
    layers
        .into_iter()
        .filter(|layer| !layer.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// As overlayfs reads it: a colon ends a layer, a comma the option.
fn escaped(layer: &Path) -> String {
    layer
        .display()
        .to_string()
        .replace('\\', "\\\\")
        .replace(':', "\\:")
        .replace(',', "\\,")
}

fn common_parent(layers: &[PathBuf]) -> Option<PathBuf> {
    let mut parent = layers.first()?.parent()?.to_owned();
    while !layers
        .iter()
        .all(|layer| layer.parent().is_some_and(|own| own.starts_with(&parent)))
    {
        if !parent.pop() {
            return None;
        }
    }
    Some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_split_and_joined_again() {
        let overlay = Overlay::parse(&[
            "index=off".into(),
            "lowerdir=/a/1:/a\\:b/2".into(),
            "upperdir=/u".into(),
        ])
        .unwrap();
        assert_eq!(overlay.layers, [Path::new("/a/1"), Path::new("/a:b/2")]);
        assert_eq!(
            overlay.data(),
            "index=off,upperdir=/u,lowerdir=/a/1:/a\\:b/2"
        );
        let comma = Overlay::parse(&["lowerdir=/a\\,b:/c,d".into()]).unwrap();
        assert_eq!(comma.data(), "lowerdir=/a\\,b:/c\\,d");
    }

    #[test]
    fn the_common_parent_is_made_of_whole_components() {
        let layers = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let snapshots = layers(&["/s/snapshots/10/fs", "/s/snapshots/1/fs"]);
        assert_eq!(
            common_parent(&snapshots).unwrap(),
            Path::new("/s/snapshots")
        );
        assert_eq!(
            common_parent(&layers(&["/a/x", "/b/y"])).unwrap(),
            Path::new("/")
        );
    }

    #[test]
    fn an_overlay_without_layers_is_refused() {
        assert!(Overlay::parse(&["upperdir=/u".into()]).is_err());
    }
}
