//! Damaged files: whatever is done to them, a store has all that was acknowledged or refuses to open.
//!
//! Three stores are attacked: one that was stopped, one that was stopped when it could not make a checkpoint (so that its
//! log is in use), and one that was killed. Each damage is done to a copy.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod support;

use std::fs;
use std::path::Path;

use faults::Attack;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use store::backup;
use store::embedded::{EmbeddedStore, LogOptions, OpenError, Options};
use store::{Expected, Store};
use support::victims::{SECTOR, Victim, files, killed, settle, stopped, victims, write};
use support::{Seen, Warnings, copy, directory, look, see, small};

/// What one kind of damage came to.
#[derive(Default)]
struct Tally {
    tried: u64,
    refused: u64,
    same: u64,
    silent: u64,
}

impl Tally {
    /// Opens a damaged copy and judges.
    async fn judge(&mut self, damaged: &Path, seen: &Seen, what: &str) {
        self.tried += 1;
        match look(damaged).await {
            Ok(found) if found == *seen => self.same += 1,
            Ok(found) => {
                self.silent += 1;
                eprintln!("{what}: revision {} became {}", seen.revision, found.revision);
            }
            Err(err) => {
                self.refused += 1;
                let text = err.to_string();
                assert!(text.contains(damaged.to_str().unwrap()), "{what}: it names no file: {text}");
            }
        }
    }

    fn record(&self, attack: &str) {
        assert_eq!(self.refused + self.same + self.silent, self.tried);
        Attack::new(attack)
            .tried(self.tried, self.silent)
            .figure("refused", self.refused)
            .figure("unharmed", self.same)
            .figure("silent resets", self.silent)
            .record();
    }
}

/// Where to flip bits: all of what is small, all of headers, and a sample of the rest.
fn places(length: usize, random: &mut StdRng) -> Vec<usize> {
    let mut places: Vec<_> = (0..length.min(96)).chain(length.saturating_sub(24)..length).collect();
    places.extend((0..60).map(|_| random.random_range(0..length.max(1))));
    // Both sides of the border between sectors.
    places
        .extend((0..length / SECTOR).flat_map(|sector| [sector * SECTOR, sector * SECTOR + 5, sector * SECTOR + 511]));
    places.retain(|&place| place < length);
    places.sort_unstable();
    places.dedup();
    places
}

#[tokio::test]
async fn a_flipped_bit_is_refused_or_harmless() {
    let (mut tally, mut random) = (Tally::default(), StdRng::seed_from_u64(1));
    for victim in victims().await {
        for (name, content) in files(victim.directory.path()) {
            for place in places(content.len(), &mut random) {
                let damaged = copy(victim.directory.path());
                let mut content = content.clone();
                content[place] ^= 1 << random.random_range(0..8);
                fs::write(damaged.path().join(&name), content).unwrap();
                tally.judge(damaged.path(), &victim.seen, &format!("{}: {name} at {place}", victim.name)).await;
            }
        }
    }
    tally.record("store: bit flips in log, checkpoint, mark and lock");
}

#[tokio::test]
async fn a_cut_emptied_or_deleted_file_is_refused_or_harmless() {
    let (mut tally, mut random) = (Tally::default(), StdRng::seed_from_u64(2));
    for victim in victims().await {
        for (name, content) in files(victim.directory.path()) {
            let mut lengths: Vec<_> = [0, 1, 511, 512, 513, 1024, content.len().saturating_sub(1)].into();
            lengths.extend((0..content.len() / SECTOR).map(|sector| sector * SECTOR));
            lengths.extend((0..20).map(|_| random.random_range(0..content.len().max(1))));
            lengths.retain(|&length| length < content.len());
            for length in lengths {
                let damaged = copy(victim.directory.path());
                fs::write(damaged.path().join(&name), &content[..length]).unwrap();
                tally.judge(damaged.path(), &victim.seen, &format!("{}: {name} cut at {length}", victim.name)).await;
            }
            let longer = copy(victim.directory.path());
            fs::write(longer.path().join(&name), [&content[..], &[0; 40]].concat()).unwrap();
            tally.judge(longer.path(), &victim.seen, &format!("{}: {name} with more", victim.name)).await;
            let without = copy(victim.directory.path());
            fs::remove_file(without.path().join(&name)).unwrap();
            tally.judge(without.path(), &victim.seen, &format!("{}: no {name}", victim.name)).await;
        }
    }
    tally.record("store: files cut, emptied, lengthened or deleted");
}

#[tokio::test]
async fn zeros_and_noise_are_refused_or_harmless() {
    let (mut tally, mut random) = (Tally::default(), StdRng::seed_from_u64(3));
    for victim in victims().await {
        for (name, content) in files(victim.directory.path()).into_iter().filter(|(_, content)| !content.is_empty()) {
            for round in 0..120 {
                let (mut begin, mut end) =
                    (random.random_range(0..content.len()), random.random_range(0..=content.len()));
                if begin > end {
                    (begin, end) = (end, begin);
                }
                if round % 2 == 0 {
                    // A lost sector, or several.
                    (begin, end) = (begin / SECTOR * SECTOR, end.next_multiple_of(SECTOR).min(content.len()));
                }
                let damaged = copy(victim.directory.path());
                let mut content = content.clone();
                if round % 3 == 0 {
                    random.fill_bytes(&mut content[begin..end])
                } else {
                    content[begin..end].fill(0)
                }
                fs::write(damaged.path().join(&name), content).unwrap();
                tally.judge(damaged.path(), &victim.seen, &format!("{}: {name} {begin}..{end}", victim.name)).await;
            }
        }
    }
    tally.record("store: ranges of zeros and of noise");
}

#[tokio::test]
async fn files_from_elsewhere_are_refused_or_harmless() {
    let mut tally = Tally::default();
    // The same names, and the same writes.
    for (victim, other) in victims().await.into_iter().zip(victims().await) {
        let (ours, theirs) = (files(victim.directory.path()), files(other.directory.path()));
        for (name, content) in &ours {
            for (other_name, other_content) in ours.iter().filter(|(_, other)| *other != content) {
                let damaged = copy(victim.directory.path());
                fs::write(damaged.path().join(name), other_content).unwrap();
                tally.judge(damaged.path(), &victim.seen, &format!("{}: {other_name} as {name}", victim.name)).await;
            }
            if let Some(foreign) = theirs.get(name) {
                let damaged = copy(victim.directory.path());
                fs::write(damaged.path().join(name), foreign).unwrap();
                tally.judge(damaged.path(), &victim.seen, &format!("{}: foreign {name}", victim.name)).await;
            }
            if name.starts_with("log-") || name.starts_with("checkpoint-") {
                let (kind, number) = name.split_once('-').unwrap();
                let number = u64::from_str_radix(number, 16).unwrap();
                for number in [number.saturating_sub(1), number + 1, number + 5, number + 1000] {
                    let damaged = copy(victim.directory.path());
                    fs::write(damaged.path().join(format!("{kind}-{number:016x}")), content).unwrap();
                    tally.judge(damaged.path(), &victim.seen, &format!("{}: {name} again", victim.name)).await;
                }
            }
        }
    }
    tally.record("store: files of another store, of another name, or twice");
}

#[tokio::test]
async fn sectors_that_changed_places_are_refused() {
    let (mut tally, mut random) = (Tally::default(), StdRng::seed_from_u64(4));
    for victim in victims().await {
        let files = files(victim.directory.path());
        for (name, content) in files.iter().filter(|(name, _)| name.starts_with("log-")) {
            for _ in 0..100 {
                let place = |random: &mut StdRng| random.random_range(0..content.len() / SECTOR) * SECTOR;
                let (from, to) = (place(&mut random), place(&mut random));
                let damaged = copy(victim.directory.path());
                let mut content = content.clone();
                content.copy_within(from..from + SECTOR, to);
                fs::write(damaged.path().join(name), content).unwrap();
                tally.judge(damaged.path(), &victim.seen, &format!("{}: {name} {from} to {to}", victim.name)).await;
            }
        }
    }
    tally.record("store: sectors of the log copied over others");
}

#[tokio::test]
async fn an_older_file_among_newer_ones_is_refused_or_harmless() {
    let mut tally = Tally::default();
    let directory = directory();
    let store = EmbeddedStore::open(small(directory.path())).unwrap();
    write(&store, 0, 30).await;
    let mut older = Vec::new();
    for round in 0..12 {
        older.push(files(directory.path()));
        write(&store, 100 * round, 7).await;
    }
    settle(&store, directory.path()).await;
    let (victim, seen) = (copy(directory.path()), see(&store).await);
    for (round, older) in older.iter().enumerate() {
        for (name, content) in older {
            let damaged = copy(victim.path());
            // The mark may be older after a power cut: then the log goes on, which is right.
            fs::write(damaged.path().join(name), content).unwrap();
            tally.judge(damaged.path(), &seen, &format!("{name} of round {round}")).await;
        }
    }
    tally.record("store: files replaced by older ones");
}

#[tokio::test]
async fn a_directory_that_had_a_store_is_not_taken_for_a_new_one() {
    for victim in victims().await {
        let emptied = copy(victim.directory.path());
        let deleted = copy(victim.directory.path());
        for name in files(victim.directory.path()).keys().filter(|name| *name != "store.lock") {
            fs::write(emptied.path().join(name), "").unwrap();
            fs::remove_file(deleted.path().join(name)).unwrap();
        }
        assert!(matches!(look(emptied.path()).await, Err(OpenError::Damaged { .. })), "{}", victim.name);
        assert!(matches!(look(deleted.path()).await, Err(OpenError::Gone { .. })), "{}", victim.name);
    }
}

/// A power cut leaves some sectors of the last write, and a mark from before it.
#[test]
fn a_write_that_was_broken_off_is_dropped_with_a_warning_and_nothing_else_is() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // With room for one more record in its log.
    let log = LogOptions { segment_bytes: 64 << 10, checkpoint_bytes: 1 << 20 };
    let begun = directory();
    let store = EmbeddedStore::open(Options { log, ..Options::at(begun.path()) }).unwrap();
    runtime.block_on(write(&store, 0, 12));
    let before = Victim { name: "killed", directory: copy(begun.path()), seen: runtime.block_on(see(&store)) };
    let after = directory();
    let name = {
        let staging = copy(before.directory.path());
        let store = EmbeddedStore::open(small(staging.path())).unwrap();
        let earlier = files(staging.path());
        let big = store.put("/big", vec![9; 2600].into(), Expected::Absent, None);
        runtime.block_on(big).unwrap();
        for (name, content) in files(staging.path()) {
            fs::write(after.path().join(name), content).unwrap();
        }
        let changed = |name: &&String| name.starts_with("log-") && files(after.path()).get(*name) != earlier.get(*name);
        earlier.keys().find(changed).unwrap().clone()
    };
    let (old, new) = (files(before.directory.path())[&name].clone(), files(after.path())[&name].clone());
    let differ: Vec<_> = (0..new.len() / SECTOR)
        .map(|sector| sector * SECTOR..(sector + 1) * SECTOR)
        .filter(|sector| old[sector.clone()] != new[sector.clone()])
        .collect();
    assert!(differ.len() >= 5, "the write has several sectors");
    let (mut tried, mut wrong) = (0, 0);
    for kept in 0..1_u32 << differ.len() {
        let torn = copy(before.directory.path());
        let mut content = old.clone();
        for (bit, sector) in differ.iter().enumerate().filter(|(bit, _)| kept >> bit & 1 == 1) {
            assert!(bit < 32);
            content[sector.clone()].copy_from_slice(&new[sector.clone()]);
        }
        fs::write(torn.path().join(&name), content).unwrap();
        let (seen, warnings) = Warnings::of(|| runtime.block_on(look(torn.path())).unwrap());
        let whole = kept + 1 == 1 << differ.len();
        let told = warnings.iter().any(|warning| warning.contains("broken off") && warning.contains(&name));
        let right = if whole { seen.revision == before.seen.revision + 1 } else { seen == before.seen };
        tried += 1;
        wrong += u64::from(!right || told != (kept != 0 && !whole));
        // What was dropped does not come back, and the next write takes its place.
        let again = runtime.block_on(look(torn.path())).unwrap();
        assert_eq!(again, seen);
    }
    Attack::new("store: writes broken off by a power cut, any of their sectors missing").tried(tried, wrong).record();
}

#[tokio::test]
async fn noise_in_place_of_files_is_refused_without_a_panic() {
    let (mut tally, mut random) = (Tally::default(), StdRng::seed_from_u64(5));
    let victim = killed().await;
    for (name, content) in files(victim.directory.path()) {
        for round in 0..60 {
            let damaged = copy(victim.directory.path());
            let mut noise = vec![0; random.random_range(0..4096)];
            random.fill_bytes(&mut noise);
            // With what a reader looks at first, so that it goes on.
            let kept = [0, 12, 28, 40][round % 4].min(content.len()).min(noise.len());
            noise[..kept].copy_from_slice(&content[..kept]);
            fs::write(damaged.path().join(&name), noise).unwrap();
            tally.judge(damaged.path(), &victim.seen, &format!("noise for {name}")).await;
        }
    }
    tally.record("store: noise in place of files");
}

#[tokio::test]
async fn what_comes_before_damage_can_be_saved() {
    let (victim, backups) = (killed().await, directory());
    let logs = || files(victim.directory.path()).into_iter().filter(|(name, _)| name.starts_with("log-"));
    let (name, mut content) = logs().next().unwrap();
    // The second record.
    let at = (1..).map(|sector| sector * SECTOR).find(|at| content[at + 4] != content[SECTOR + 4]).unwrap();
    content[at + 100] ^= 1;
    fs::write(victim.directory.path().join(&name), content).unwrap();
    let file = backups.path().join("saved");
    let (saved, damage) = backup::of_damaged_directory(victim.directory.path(), &file).unwrap();
    assert!(saved.revision < victim.seen.revision);
    assert!(matches!(damage, Some(OpenError::Damaged { offset, .. }) if offset == at as u64), "{damage:?}");
    let place = directory();
    backup::to_directory(&file, place.path(), 0).unwrap();
    assert_eq!(look(place.path()).await.unwrap().revision, saved.revision);

    let without_mark = stopped().await;
    fs::write(without_mark.directory.path().join("store.mark"), "").unwrap();
    let file = backups.path().join("all");
    let (saved, damage) = backup::of_damaged_directory(without_mark.directory.path(), &file).unwrap();
    assert_eq!(saved.revision, without_mark.seen.revision);
    assert!(damage.is_some());
}
