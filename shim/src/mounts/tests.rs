//! The mounts that snapshotters ask for, in the kernel.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use rsrun_core::{Cancel, Containers};

use super::*;

/// A directory of a test's own, with a mount namespace of its own for the thread that runs it.
struct Ground(PathBuf);

impl Ground {
    fn new(name: &str) -> Self {
        // CLONE_NEWNS wants a file system context that no other thread shares.
        #[allow(clippy::disallowed_methods, reason = "the thread of one test alone")]
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let dir = std::env::temp_dir().join(format!("rsrun-mounts-{}-{name}", std::process::id()));
        tmpfs(&dir);
        Self(dir)
    }

    fn dir(&self, name: &str) -> PathBuf {
        let dir = self.0.join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn root(&self) -> PathBuf {
        self.0.join("rootfs")
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = unmount_all(&self.0);
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A new one at this place.
fn tmpfs(at: &Path) {
    fs::create_dir_all(at).unwrap();
    let (kind, none) = (Some("tmpfs"), None::<&str>);
    mount(kind, at, kind, MsFlags::empty(), none).unwrap();
}

fn mount_of(kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        kind: kind.into(),
        source: source.into(),
        target: String::new(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    }
}

fn nobody(_: &IdMap) -> Result<OwnedFd> {
    Err(Error::invalid("this test needs no user namespace"))
}

/// Layers with one file each, and the words for an overlay of them.
fn layers(ground: &Ground, count: usize, name: &str) -> String {
    let layers: Vec<String> = (0..count)
        .map(|n| {
            let dir = ground.dir(&format!("{name}-{n}"));
            fs::write(dir.join(format!("file-{n}")), n.to_string()).unwrap();
            dir.display().to_string()
        })
        .collect();
    format!("lowerdir={}", layers.join(":"))
}

/// An overlay of so many layers, whose names are so long, and how mounting it went.
fn overlay_of(ground: &Ground, count: usize, name: usize) -> (usize, Result<()>) {
    let lower = layers(ground, count, &"l".repeat(name));
    let upper = format!("upperdir={}", ground.dir("upper").display());
    let work = format!("workdir={}", ground.dir("work").display());
    let mounts = [mount_of("overlay", "overlay", &[&work, &upper, &lower])];
    (lower.len(), mount_all(&mounts, &ground.root(), &nobody))
}

fn shows_layers(ground: &Ground, numbers: &[usize]) {
    for n in numbers {
        let file = ground.root().join(format!("file-{n}"));
        assert_eq!(fs::read_to_string(file).unwrap(), n.to_string());
    }
}

/// Before 6.7 an overlay takes its layers in one page.
fn takes_layers_one_by_one() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse::<u32>().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 7)
}

#[test]
#[ignore = "needs root"]
fn an_overlay_whose_layers_fit_a_page_by_relative_names_alone_shows_all_of_them() {
    let ground = Ground::new("some");
    let (length, mounted) = overlay_of(&ground, 48, 60);
    assert!(length > 4096, "{length}");
    mounted.unwrap();
    shows_layers(&ground, &[0, 24, 47]);
    unmount_own(&ground.root()).unwrap();
}

#[test]
#[ignore = "needs root"]
fn an_overlay_of_two_hundred_layers_with_long_names_shows_all_of_them() {
    let ground = Ground::new("many");
    let (length, mounted) = overlay_of(&ground, 200, 60);
    assert!(length > 2 * 4096);
    if !takes_layers_one_by_one() {
        let error = mounted.unwrap_err().to_string();
        assert!(error.contains("this kernel takes one page"), "{error}");
        assert!(!unmount::is_mount_point(&ground.root()).unwrap());
        return;
    }
    mounted.unwrap();
    shows_layers(&ground, &[0, 99, 199]);
    fs::write(ground.root().join("new"), "").unwrap();
    assert!(ground.dir("upper").join("new").exists());
    unmount_own(&ground.root()).unwrap();
    assert_eq!(fs::read_dir(ground.root()).unwrap().count(), 0);
}

#[test]
#[ignore = "needs root"]
fn a_read_only_bind_mount_is_never_writable() {
    let ground = Ground::new("bind");
    let source = ground.dir("source");
    fs::write(source.join("there"), "").unwrap();
    let mounts = [mount_of("bind", source.to_str().unwrap(), &["rbind", "ro"])];
    mount_all(&mounts, &ground.root(), &nobody).unwrap();
    assert!(ground.root().join("there").exists());
    let refused = fs::write(ground.root().join("new"), "").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(nix::libc::EROFS));
    fs::write(source.join("new"), "").unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_target_that_is_a_link_out_of_the_root_stays_inside() {
    let ground = Ground::new("target");
    let (image, outside) = (ground.dir("image"), ground.dir("outside"));
    fs::create_dir(image.join("inside")).unwrap();
    std::os::unix::fs::symlink(&outside, image.join("link")).unwrap();
    fs::create_dir_all(image.join(outside.strip_prefix("/").unwrap())).unwrap();
    let below = Mount {
        target: "/link".into(),
        ..mount_of("tmpfs", "tmpfs", &[])
    };
    let mounts = [mount_of("bind", image.to_str().unwrap(), &["rbind"]), below];
    mount_all(&mounts, &ground.root(), &nobody).unwrap();
    let tmpfs = ground.root().join(outside.strip_prefix("/").unwrap());
    assert!(unmount::is_mount_point(&tmpfs).unwrap());
    assert!(!unmount::is_mount_point(&outside).unwrap());
    unmount_all(&ground.root()).unwrap();
    assert!(!unmount::is_mount_point(&ground.root()).unwrap());
}

#[test]
#[ignore = "needs root"]
fn what_is_mounted_below_a_place_that_is_no_mount_point_goes_too() {
    let ground = Ground::new("below");
    let source = ground.dir("source");
    fs::create_dir_all(ground.root().join("a/b")).unwrap();
    let bind = mount_of("bind", source.to_str().unwrap(), &["bind"]);
    for place in ["/a", "/a/b"] {
        fs::create_dir_all(source.join("b")).unwrap();
        let target = place.into();
        let one = Mount {
            target,
            ..bind.clone()
        };
        mount_all(&[one], &ground.root(), &nobody).unwrap();
    }
    assert!(unmount::is_mount_point(&ground.root().join("a/b")).unwrap());
    unmount_all(&ground.root()).unwrap();
    assert!(!unmount::is_mount_point(&ground.root().join("a")).unwrap());
    assert_eq!(fs::read_dir(ground.root().join("a")).unwrap().count(), 1);
}

#[test]
#[ignore = "needs root"]
fn mounts_that_are_stacked_on_one_place_all_go() {
    let ground = Ground::new("stacked");
    let source = ground.dir("source");
    let bind = mount_of("bind", source.to_str().unwrap(), &["bind"]);
    mount_all(&[bind.clone(), bind], &ground.root(), &nobody).unwrap();
    unmount_all(&ground.root()).unwrap();
    assert!(!unmount::is_mount_point(&ground.root()).unwrap());
}

#[test]
#[ignore = "needs root"]
fn a_mount_that_an_older_one_hides_goes_too() {
    let ground = Ground::new("hidden");
    let (older, root) = (ground.dir("older"), ground.root());
    tmpfs(&older);
    // Of a shared mount nothing can be moved.
    mount(
        None::<&str>,
        &older,
        None::<&str>,
        MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .unwrap();
    tmpfs(&root.join("a/b"));
    mount(
        Some(&older),
        &root.join("a"),
        None::<&str>,
        MsFlags::MS_MOVE,
        None::<&str>,
    )
    .unwrap();
    unmount_all(&root).unwrap();
    assert!(!unmount::is_mount_point(&root.join("a/b")).unwrap());
    assert!(!unmount::is_mount_point(&root.join("a")).unwrap());
}

#[test]
#[ignore = "needs root"]
fn busy_mounts_are_waited_for_together() {
    let ground = Ground::new("busy");
    let places = ["a", "b", "c"].map(|name| ground.root().join(name));
    let _held: Vec<fs::File> = places
        .iter()
        .map(|at| {
            tmpfs(at);
            fs::File::create(at.join("held")).unwrap()
        })
        .collect();
    let began = Instant::now();
    unmount_all_until(&ground.root(), began + Duration::from_millis(300)).unwrap();
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(250) && took < Duration::from_secs(2),
        "{took:?}"
    );
    assert!(
        places
            .iter()
            .all(|at| !unmount::is_mount_point(at).unwrap())
    );
}

#[test]
#[ignore = "needs root"]
fn a_mount_that_fails_leaves_none_of_those_before_it() {
    let ground = Ground::new("failing");
    let source = ground.dir("source");
    let mounts = [
        mount_of("bind", source.to_str().unwrap(), &["rbind"]),
        mount_of("nosuchfs", "none", &[]),
    ];
    let error = mount_all(&mounts, &ground.root(), &nobody)
        .unwrap_err()
        .to_string();
    assert!(error.contains("nosuchfs"), "{error}");
    assert!(!unmount::is_mount_point(&ground.root()).unwrap());
}

#[test]
#[ignore = "needs root"]
fn a_file_with_a_filesystem_is_mounted_by_a_loop_device() {
    let ground = Ground::new("loop");
    let file = ground.0.join("image");
    fs::File::create(&file).unwrap().set_len(16 << 20).unwrap();
    let made = std::process::Command::new("mkfs.ext4")
        .arg("-q")
        .arg(&file)
        .status()
        .unwrap();
    assert!(made.success());
    let mounts = [mount_of("ext4", file.to_str().unwrap(), &["loop", "ro"])];
    mount_all(&mounts, &ground.root(), &nobody).unwrap();
    assert!(ground.root().join("lost+found").exists());
    unmount_own(&ground.root()).unwrap();
}

#[test]
#[ignore = "needs root"]
fn layers_of_an_id_mapped_overlay_have_the_owners_of_the_namespace_and_leave_nothing() {
    let ground = Ground::new("idmap");
    let lower = layers(&ground, 3, "layer");
    let state = ground.dir("state");
    let containers = Containers::open(&state).unwrap();
    let cancel = Cancel::new().unwrap();
    let make = |map: &IdMap| crate::container::create::user_namespace(&containers, map, &cancel);
    let upper = format!("upperdir={}", ground.dir("upper").display());
    let work = format!("workdir={}", ground.dir("work").display());
    let options = [
        &work,
        &upper,
        &lower,
        "uidmap=0:70000:1000",
        "gidmap=0:80000:1000",
    ];
    let mounts = [mount_of("overlay", "overlay", &options)];
    mount_all(&mounts, &ground.root(), &make).unwrap();
    let owner = fs::metadata(ground.root().join("file-1")).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (70_000, 80_000));
    assert!(!ground.0.join("idmapped").exists());
    unmount_own(&ground.root()).unwrap();
    assert!(!unmount::is_mount_point(Path::new(&ground.root())).unwrap());
}
