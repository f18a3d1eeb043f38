//! Damage to the files of a store: whatever is done to them, opening it shows all that was acknowledged, or is refused
//! with an error that names a file and changes none.
//!
//! This file is compiled twice: by the fuzzer, and by a test of `store` that runs a short while on every build.
#![allow(unreachable_pub, reason = "the fuzzer sees a library, the test a module")]
#![allow(clippy::unwrap_used, reason = "a target fails by panicking")]

#[path = "../../store/tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use support::victims::{SECTOR, files, victims};
use support::{Seen, directory, look};
use tokio::runtime::Runtime;

/// A store's files, by their names.
type Files = BTreeMap<String, Vec<u8>>;

/// Damages of one input that count.
const DAMAGES: usize = 8;
/// How many bytes say one.
const LENGTH: usize = 8;
const LOCK: &str = "store.lock";

static TOKIO: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap());

/// What there is to damage, and what clients should see of it.
static VICTIMS: LazyLock<Vec<(Files, Seen)>> = LazyLock::new(|| {
    let victims = TOKIO.block_on(victims());
    victims.into_iter().map(|victim| (files(victim.directory.path()), victim.seen)).collect()
});

/// Damages a store and opens it:
///
/// ```text
/// | which store 1 byte | damage 8 | damage 8 | ...
/// damage: | what 1 | file 1 | other file 1 | at 2 | length 2 | value 1 |
/// ```
pub fn run(data: &[u8]) {
    let Some((which, damages)) = data.split_first() else { return };
    let (whole, seen) = &VICTIMS[usize::from(*which) % VICTIMS.len()];
    let mut damaged = whole.clone();
    damages.as_chunks::<LENGTH>().0.iter().take(DAMAGES).for_each(|damage| apply(&mut damaged, damage));
    let place = directory();
    for (name, content) in &damaged {
        fs::write(place.path().join(name), content).unwrap();
    }
    match TOKIO.block_on(look(place.path())) {
        Ok(found) if has_a_trace(&damaged) => {
            assert!(found == *seen, "revision {} became {}", seen.revision, found.revision);
            let again = TOKIO.block_on(look(place.path())).unwrap();
            assert!(again == found, "revision {} became {} later", found.revision, again.revision);
        }
        Ok(found) => assert!(found.revision <= 1 || found == *seen, "a new store has nothing"),
        Err(err) => {
            let text = err.to_string();
            assert!(text.contains(place.path().to_str().unwrap()), "it names no file: {text}");
            // The lock is made where there is none.
            damaged.entry(LOCK.to_owned()).or_default();
            assert!(files(place.path()) == damaged, "what is damaged is left as it is: {text}");
        }
    }
}

/// Whether anything says that the directory had a store with something in it. Without a trace it is like a new one.
fn has_a_trace(files: &Files) -> bool {
    files.iter().any(|(name, content)| match name.as_str() {
        "store.mark" => true,
        LOCK => content.iter().any(|byte| *byte != 0),
        name if name.ends_with(".new") => false,
        // The first log of a store is made before its mark.
        "log-0000000000000001" => content.iter().skip(SECTOR).any(|byte| *byte != 0),
        name => name.starts_with("log-") || name.starts_with("checkpoint-"),
    })
}

fn apply(files: &mut Files, damage: &[u8; LENGTH]) {
    let [what, file, other, at @ .., value] = damage;
    let [high, low, long, short] = at;
    let name_of = |index: &u8| files.keys().nth(usize::from(*index) % files.len().max(1)).cloned();
    let (Some(name), Some(other)) = (name_of(file), name_of(other)) else { return };
    let Some(content) = files.get_mut(&name) else { return };
    // Both are within the file, whatever its length.
    let at = usize::from(u16::from_be_bytes([*high, *low])) % content.len().max(1);
    let end = (at + usize::from(u16::from_be_bytes([*long, *short]))).min(content.len());
    let sector = at / SECTOR * SECTOR;
    match what % 10 {
        0 => content.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= value),
        1 => content.truncate(at),
        2 => drop(files.remove(&name)),
        3 => content[at..end].fill(*value),
        4 => {
            let length = content.len();
            content[sector..end.next_multiple_of(SECTOR).min(length)].fill(0);
        }
        5 => {
            // One sector over another.
            let to = (usize::from(*value) * SECTOR) % content.len().max(1);
            let length = SECTOR.min(content.len() - sector).min(content.len() - to);
            content.copy_within(sector..sector + length, to);
        }
        6 => content.resize(content.len() + usize::from(*value), *short),
        7 => {
            let copy = content.clone();
            files.insert(other, copy);
        }
        8 => {
            let copy = content.clone();
            files.insert(renumbered(&name, *value), copy);
        }
        _ => {
            let (one, two) = (content.clone(), files[&other].clone());
            files.insert(other, one);
            files.insert(name, two);
        }
    }
}

/// The name of a log or checkpoint with another number, and of another file before it is whole.
fn renumbered(name: &str, by: u8) -> String {
    let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
    match name.split_once('-').and_then(|(kind, digits)| Some((kind, number(digits)?))) {
        Some((kind, number)) => format!("{kind}-{:016x}", number.wrapping_add_signed(i64::from(by.cast_signed()))),
        None => format!("{}.new", name.trim_end_matches(".new")),
    }
}

/// One of each kind of damage to each store, and several at a time.
pub fn seeds() -> Vec<Vec<u8>> {
    let one = |what: u8, file: u8| [what, file, file + 1, 2, 40, 2, 0, 3];
    let mut seeds: Vec<Vec<u8>> = (0..10_u8).map(|what| [&[what], &one(what, what)[..]].concat()).collect();
    seeds.push([&[1], &one(0, 0)[..], &one(4, 1)[..], &one(8, 2)[..]].concat());
    // Everything is gone.
    seeds.push([&[2], &[one(2, 0); DAMAGES].concat()[..]].concat());
    // Nothing is.
    seeds.extend([vec![0], vec![1], vec![2]]);
    seeds
}
