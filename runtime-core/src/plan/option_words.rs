//! The words of mount options, and what each does.
//!
//! They are those of mount(8) and of the specification's "Linux mount options"; a word that is not
//! among them belongs to the filesystem.

pub(super) const RDONLY: u64 = 0x1;
pub(super) const NOSUID: u64 = 0x2;
pub(super) const NODEV: u64 = 0x4;
pub(super) const NOEXEC: u64 = 0x8;
pub(super) const ATIME: u64 = 0x70;
pub(super) const RELATIME: u64 = 0;
pub(super) const NOATIME: u64 = 0x10;
pub(super) const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
pub(super) const NOSYMFOLLOW: u64 = 0x20_0000;
pub(super) const UNBINDABLE: u64 = 1 << 17;
pub(super) const PRIVATE: u64 = 1 << 18;
pub(super) const SLAVE: u64 = 1 << 19;
pub(super) const SHARED: u64 = 1 << 20;

/// What one word does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Effect {
    /// Nothing: it names the default.
    Default,
    /// Sets `MOUNT_ATTR_*` bits.
    Set(u64),
    /// Clears them.
    Clear(u64),
    /// Chooses how access times are kept; one of three values of one field.
    Times(u64),
    /// Back to relatime, if this way was chosen before.
    NotTimes(u64),
    /// Of the whole filesystem, by this word of fsconfig(2).
    Superblock(&'static str),
    /// Undoes such a word.
    NotSuperblock(&'static str),
    /// A clone of the tree at source, with or without the mounts below it.
    Bind(Depth),
    /// Change what is mounted already.
    Remount,
    /// `MS_SHARED` and its like.
    Propagation(u64, Depth),
    /// Copy what the mount point held into the tmpfs.
    CopyUp,
    /// Map ids.
    IdMap(Depth),
}

/// One mount, or it and all below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Depth {
    #[default]
    One,
    Tree,
}

pub(super) use Depth::{One, Tree};
pub(super) use Effect::{
    Bind, Clear, CopyUp, Default as Nothing, IdMap, NotSuperblock, NotTimes, Propagation, Remount,
    Set, Superblock, Times,
};

pub(super) const WORDS: [(&str, Effect); 43] = [
    ("async", NotSuperblock("sync")),
    ("atime", NotTimes(NOATIME)),
    ("bind", Bind(One)),
    ("defaults", Nothing),
    ("dev", Clear(NODEV)),
    ("diratime", Clear(NODIRATIME)),
    ("dirsync", Superblock("dirsync")),
    ("exec", Clear(NOEXEC)),
    ("idmap", IdMap(One)),
    ("lazytime", Superblock("lazytime")),
    // Nothing is logged on the console either way: messages go into the filesystem context.
    ("loud", Nothing),
    ("mand", Superblock("mand")),
    ("noatime", Times(NOATIME)),
    ("nodev", Set(NODEV)),
    ("nodiratime", Set(NODIRATIME)),
    ("noexec", Set(NOEXEC)),
    ("nolazytime", NotSuperblock("lazytime")),
    ("nomand", NotSuperblock("mand")),
    // Without another choice the kernel keeps relatime; it can't be turned off.
    ("norelatime", Nothing),
    ("nostrictatime", NotTimes(STRICTATIME)),
    ("nosuid", Set(NOSUID)),
    ("nosymfollow", Set(NOSYMFOLLOW)),
    ("private", Propagation(PRIVATE, One)),
    ("rbind", Bind(Tree)),
    ("relatime", Times(RELATIME)),
    ("remount", Remount),
    ("ridmap", IdMap(Tree)),
    ("ro", Set(RDONLY)),
    ("rprivate", Propagation(PRIVATE, Tree)),
    ("rshared", Propagation(SHARED, Tree)),
    ("rslave", Propagation(SLAVE, Tree)),
    ("runbindable", Propagation(UNBINDABLE, Tree)),
    ("rw", Clear(RDONLY)),
    ("shared", Propagation(SHARED, One)),
    ("silent", Nothing),
    ("slave", Propagation(SLAVE, One)),
    ("strictatime", Times(STRICTATIME)),
    ("suid", Clear(NOSUID)),
    ("symfollow", Clear(NOSYMFOLLOW)),
    ("sync", Superblock("sync")),
    ("tmpcopyup", CopyUp),
    ("unbindable", Propagation(UNBINDABLE, One)),
    ("noiversion", Nothing),
];

/// Words that hold for a mount and all mounts below it (`mount_setattr` with AT_RECURSIVE).
pub(super) const RECURSIVE_WORDS: [(&str, Effect); 18] = [
    ("ratime", NotTimes(NOATIME)),
    ("rdev", Clear(NODEV)),
    ("rdiratime", Clear(NODIRATIME)),
    ("rexec", Clear(NOEXEC)),
    ("rnoatime", Times(NOATIME)),
    ("rnodev", Set(NODEV)),
    ("rnodiratime", Set(NODIRATIME)),
    ("rnoexec", Set(NOEXEC)),
    ("rnorelatime", Nothing),
    ("rnostrictatime", NotTimes(STRICTATIME)),
    ("rnosuid", Set(NOSUID)),
    ("rnosymfollow", Set(NOSYMFOLLOW)),
    ("rrelatime", Times(RELATIME)),
    ("rro", Set(RDONLY)),
    ("rrw", Clear(RDONLY)),
    ("rstrictatime", Times(STRICTATIME)),
    ("rsuid", Clear(NOSUID)),
    ("rsymfollow", Clear(NOSYMFOLLOW)),
];

pub(super) fn meaning(words: &[(&str, Effect)], word: &str) -> Option<Effect> {
    words
        .iter()
        .find(|(known, _)| *known == word)
        .map(|(_, effect)| *effect)
}

/// Every word that is understood, sorted: `mountOptions` of the features document.
#[must_use]
pub fn mount_option_words() -> Vec<String> {
    let mut words: Vec<String> = WORDS
        .iter()
        .chain(&RECURSIVE_WORDS)
        .map(|(word, _)| (*word).to_owned())
        .collect();
    words.sort();
    words
}
