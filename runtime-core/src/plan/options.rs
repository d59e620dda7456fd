//! What the options of a mount come to: attributes, propagation, what is for the filesystem.

use rsrun_init::step::MountAttributes;

use super::option_words::{
    ATIME, Bind, Clear, CopyUp, Effect, IdMap, NotSuperblock, NotTimes, Nothing, One, Propagation,
    RECURSIVE_WORDS, RELATIME, Remount, Set, Superblock, Times, Tree, WORDS, meaning,
};
pub(super) use super::option_words::{Depth, PRIVATE, RDONLY, SHARED, SLAVE, UNBINDABLE};
use super::text::entry;
use crate::error::{Error, Result};

/// The option words of a mount, sorted out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Options {
    /// Attributes of the mount.
    pub(super) own: Attributes,
    /// Attributes of it and all below.
    pub(super) below: Attributes,
    /// Propagation, in order.
    pub(super) propagation: Vec<(u64, Depth)>,
    /// A clone of a tree.
    pub(super) bind: Option<Depth>,
    /// A change of what is there.
    pub(super) remount: bool,
    /// Words of every filesystem, for fsconfig.
    pub(super) superblock: Vec<&'static str>,
    /// Words of this filesystem, with where they stand.
    pub(super) of_filesystem: Vec<(usize, String)>,
    /// `tmpcopyup`
    pub(super) copy_up: bool,
    /// `idmap` or `ridmap`
    pub(super) idmap: Option<Depth>,
}

/// Attributes of a mount that were asked for, or asked away.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Attributes {
    set: u64,
    clear: u64,
    times: Option<u64>,
}

impl Options {
    /// Sorts the words out; the later of two that contradict each other holds.
    pub(super) fn read(words: &[String]) -> Self {
        let mut options = Self::default();
        for (index, word) in words.iter().enumerate() {
            if let Some(effect) = meaning(&RECURSIVE_WORDS, word) {
                options.below.apply(effect);
            } else if let Some(effect) = meaning(&WORDS, word) {
                options.apply(effect);
            } else if !word.is_empty() {
                options.of_filesystem.push((index, word.clone()));
            }
        }
        options
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Nothing => {}
            Set(_) | Clear(_) | Times(_) | NotTimes(_) => self.own.apply(effect),
            Superblock(word) => {
                self.superblock.retain(|known| *known != word);
                self.superblock.push(word);
            }
            NotSuperblock(word) => self.superblock.retain(|known| *known != word),
            Bind(depth) => self.bind = Some(depth),
            Remount => self.remount = true,
            Propagation(kind, depth) => self.propagation.push((kind, depth)),
            CopyUp => self.copy_up = true,
            IdMap(depth) => self.idmap = Some(depth),
        }
    }

    /// Refuses what has no meaning for a clone of a tree.
    pub(super) fn check_bind(&self, place: &str) -> Result<()> {
        if let Some((index, word)) = self.of_filesystem.first() {
            return Err(Error::spec(
                entry(place, *index),
                format!("{word:?} is no option of a bind mount"),
            ));
        }
        // Words for a superblock (`sync`) mean nothing to a clone; mount(8) and runc take them too.
        Ok(())
    }

    /// The `mount_setattr` calls, in order: only what is asked for changes, so a bind is never weaker than
    /// its source but where a word says so.
    pub(super) fn changes(&self) -> Vec<MountAttributes> {
        let own = self.own.change(One);
        let below = self.below.change(Tree);
        own.into_iter()
            .chain(below)
            .chain(self.propagations())
            .collect()
    }

    /// The propagation words as `mount_setattr` calls.
    pub(super) fn propagations(&self) -> impl Iterator<Item = MountAttributes> + '_ {
        self.propagation
            .iter()
            .map(|(kind, depth)| MountAttributes {
                propagation: *kind,
                recursive: *depth == Tree,
                ..MountAttributes::default()
            })
    }
}

impl Attributes {
    fn apply(&mut self, effect: Effect) {
        match effect {
            Set(bits) => {
                self.set |= bits;
                self.clear &= !bits;
            }
            Clear(bits) => {
                self.set &= !bits;
                self.clear |= bits;
            }
            Times(way) => self.times = Some(way),
            // Asked for on its own, it undoes what the source of a clone has.
            NotTimes(way) if self.times.is_none_or(|chosen| chosen == way) => {
                self.times = Some(RELATIME);
            }
            NotTimes(_) | Nothing | Superblock(_) | NotSuperblock(_) | Bind(_) | Remount
            | Propagation(..) | CopyUp | IdMap(_) => {}
        }
    }

    /// As flags of a new mount (`fsmount`).
    pub(super) fn of_new(self) -> u64 {
        self.set | self.times.unwrap_or(RELATIME)
    }

    /// As a change of a mount; `None` when nothing was asked for.
    pub(super) fn change(self, depth: Depth) -> Option<MountAttributes> {
        // The kernel wants the whole field cleared before one of its values is set.
        let (cleared, chosen) = self.times.map_or((0, 0), |way| (ATIME, way));
        let change = MountAttributes {
            set: self.set | chosen,
            clear: self.clear | cleared,
            propagation: 0,
            recursive: depth == Tree,
        };
        (change.set != 0 || change.clear != 0).then_some(change)
    }

    /// Whether the mount is to be read-only.
    pub(super) fn read_only(self) -> bool {
        self.set & RDONLY != 0
    }

    /// The same, writable.
    pub(super) fn writable(mut self) -> Self {
        self.set &= !RDONLY;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::option_words::*;
    use super::*;
    use proptest::prelude::*;

    fn read(words: &[&str]) -> Options {
        Options::read(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_bind_without_attribute_words_leaves_its_source_as_it_is() {
        assert_eq!(read(&["rbind"]).changes(), []);
        assert_eq!(read(&["bind", "defaults", "norelatime"]).changes(), []);
        assert_eq!(read(&["rbind", "rprivate"]).changes().len(), 1);
    }

    #[test]
    fn a_bind_keeps_what_no_word_changes() {
        let [change] = read(&["rbind", "ro", "nodev"]).changes()[..] else {
            panic!()
        };
        assert_eq!(change.set, RDONLY | NODEV);
        assert_eq!(change.clear, 0);
        assert!(!change.recursive, "mounts below keep theirs");
    }

    #[test]
    fn words_that_clear_are_explicit() {
        let [change] = read(&["rbind", "rw", "nosuid", "exec"]).changes()[..] else {
            panic!()
        };
        assert_eq!((change.set, change.clear), (NOSUID, RDONLY | NOEXEC));
        assert!(
            !change.recursive,
            "rbind alone makes no attribute recursive"
        );
    }

    #[test]
    fn recursive_words_are_a_call_of_their_own_after_the_others() {
        let changes = read(&["rbind", "nodev", "rro", "rnoatime", "rslave"]).changes();
        assert_eq!(changes.len(), 3);
        assert_eq!((changes[0].set, changes[0].recursive), (NODEV, false));
        assert_eq!(
            (changes[1].set, changes[1].clear, changes[1].recursive),
            (RDONLY | NOATIME, ATIME, true)
        );
        assert_eq!(
            (changes[2].propagation, changes[2].recursive),
            (SLAVE, true)
        );
    }

    #[test]
    fn every_word_of_the_specification_is_known_but_iversion() {
        let known = mount_option_words();
        for word in [
            "async",
            "atime",
            "bind",
            "defaults",
            "dev",
            "diratime",
            "dirsync",
            "exec",
            "lazytime",
            "loud",
            "mand",
            "noatime",
            "nodev",
            "nodiratime",
            "noexec",
            "noiversion",
            "nolazytime",
            "nomand",
            "norelatime",
            "nostrictatime",
            "nosuid",
            "nosymfollow",
            "private",
            "ratime",
            "rbind",
            "rdev",
            "rdiratime",
            "relatime",
            "remount",
            "rexec",
            "rnoatime",
            "rnodev",
            "rnodiratime",
            "rnoexec",
            "rnorelatime",
            "rnostrictatime",
            "rnosuid",
            "rnosymfollow",
            "ro",
            "rprivate",
            "rrelatime",
            "rro",
            "rrw",
            "rshared",
            "rslave",
            "rstrictatime",
            "rsuid",
            "rsymfollow",
            "runbindable",
            "rw",
            "shared",
            "silent",
            "slave",
            "strictatime",
            "suid",
            "symfollow",
            "sync",
            "tmpcopyup",
            "unbindable",
            "idmap",
            "ridmap",
        ] {
            assert!(known.iter().any(|k| k == word), "{word}");
        }
        assert_eq!(known.len(), 61);
    }

    proptest! {
        #[test]
        fn no_bit_is_both_set_and_cleared_and_times_are_set_as_a_whole(
            words in proptest::collection::vec(0..mount_option_words().len(), 0..12)
        ) {
            let all = mount_option_words();
            let words: Vec<String> = words.into_iter().map(|i| all[i].clone()).collect();
            for change in Options::read(&words).changes() {
                let plain = !ATIME;
                prop_assert_eq!(change.set & change.clear & plain, 0);
                prop_assert!(change.clear & ATIME == 0 || change.clear & ATIME == ATIME);
                prop_assert!(change.set & ATIME == 0 || change.clear & ATIME == ATIME);
            }
        }

        #[test]
        fn the_last_of_two_opposite_words_holds(first in any::<bool>(), second in any::<bool>()) {
            let word = |ro: bool| if ro { "ro" } else { "rw" }.to_owned();
            let options = Options::read(&[word(first), word(second)]);
            prop_assert_eq!(options.own.read_only(), second);
        }
    }
}
