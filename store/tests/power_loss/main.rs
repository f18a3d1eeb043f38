//! Power losses at random moments: what was acknowledged or shown is there afterwards, whatever the disk made of the rest.
//!
//! A kill (`store/tests/crash.rs`) leaves all that was written; a power loss leaves what was synced, and any part of the rest. A
//! seed decides what is written, when the power goes, and what the disk keeps ([`disk`]). Each power loss is judged several
//! times, as what else it might have left; then the store goes on with one of those, until the power goes again.
//!
//! `STORE_POWER_SEED=n` plays one seed, `STORE_POWER_SEEDS=n` so many. The threads of the store meet each other
//! differently each time, so the directory that was left stays where a seed failed: it fails whenever it is opened.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod content;
mod disk;
mod known;
#[path = "../support/mod.rs"]
mod support;
mod work;

use std::path::{Path, PathBuf};

use disk::Disk;
use faults::Attack;
use known::Known;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use store::backup;
use store::embedded::{EmbeddedStore, Faults, LogOptions, OpenError, Options};
use store::{Limits, Store as _};
use tempfile::TempDir;
use work::{Plan, work};

/// So often the power goes in a seed.
const LOSSES: u32 = 5;
/// So often each loss is judged, beside the one that the store goes on with.
const JUDGED: u32 = 3;
/// The store's place on the disk: it makes these directories.
const PLACE: &str = "lib/store";

/// What seeds came to.
#[derive(Default)]
struct Tally {
    losses: u64,
    kills: u64,
    tried: u64,
    lost: u64,
    torn: u64,
    writes: usize,
}

/// Small enough that checkpoints are being made and logs begun all the time.
fn options(root: &Path, faults: Faults) -> Options {
    let limits = Limits { watch_buffer: 1 << 16, ..Limits::default() };
    let log = LogOptions { segment_bytes: 16 << 10, checkpoint_bytes: 20 << 10 };
    Options { limits, log, faults, ..Options::at(root.join(PLACE)) }
}

/// One seed: a store, and its power losses.
struct Game {
    seed: u64,
    random: StdRng,
    lies: bool,
    known: Known,
    /// What is on the disk.
    root: TempDir,
    loss: u32,
}

impl Game {
    fn new(seed: u64, lies: bool) -> Self {
        let (random, root) = (StdRng::seed_from_u64(seed), support::directory());
        Self { seed, random, lies, known: Known::default(), root, loss: 0 }
    }

    /// Plays until nothing is left to play, or something was lost.
    async fn play(mut self, tally: &mut Tally) {
        for loss in 0..LOSSES {
            self.loss = loss;
            let left = self.moment();
            let disk = if self.lies { Disk::that_lies } else { Disk::of }(self.root.path(), left);
            let mut played = self.until_power_goes(&disk).await;
            // Perhaps only the process is killed at first: then the next one finds what the kernel has.
            while played.is_ok() && self.random.random_ratio(1, 3) {
                tally.kills += 1;
                disk.go_on(self.moment());
                played = self.until_power_goes(&disk).await;
            }
            match played {
                Ok(()) => tally.losses += 1,
                Err(problem) => return self.fail(tally, &problem, None, &[]),
            }
            for _ in 0..JUDGED {
                let place = support::directory();
                let told = disk.leave(&mut self.random, place.path());
                tally.tried += 1;
                let torn = backup::check(&place.path().join(PLACE)).map(|report| report.state);
                tally.torn += u64::from(matches!(torn, Ok(backup::State::Unclosed { torn: 1.. })));
                if let Err(problem) = self.judge(place.path()).await {
                    return self.fail(tally, &problem, Some(place), &told);
                }
            }
            let next = support::directory();
            disk.leave(&mut self.random, next.path());
            self.root = next;
        }
        tally.writes += self.known.writes();
    }

    /// How many operations there will be before the power goes: seldom many, so that starts are met, too.
    fn moment(&mut self) -> u64 {
        let most = [6, 24, 120, 600, 2400][self.random.random_range(0..5)];
        self.random.random_range(0..most)
    }

    /// Opens the store, looks, and works in it until the power goes.
    async fn until_power_goes(&mut self, disk: &Disk) -> Result<(), String> {
        let store = match EmbeddedStore::open(options(self.root.path(), disk.faults())) {
            Ok(store) => store,
            Err(_) if disk.is_off() => return Ok(()),
            Err(err) => return Err(describe(&err)),
        };
        self.known.check(&store).await?;
        let plan = Plan::random(&mut self.random);
        let seed = self.random.random();
        work(store, disk, &plan, seed, &mut self.known).await;
        disk.cut();
        Ok(())
    }

    /// Opens what a power loss may have left, looks, and goes on for a moment.
    async fn judge(&self, root: &Path) -> Result<(), String> {
        let (mut known, seen) = (self.known.clone(), self.known.newest());
        let store = EmbeddedStore::open(options(root, Faults::default())).map_err(|err| describe(&err))?;
        known.check(&store).await?;
        known.go_on(&store, seen, "/goes-on").await?;
        store.close().await.map_err(|err| err.to_string())?;
        drop(store);
        let again = EmbeddedStore::open(options(root, Faults::default())).map_err(|err| describe(&err))?;
        known.check(&again).await
    }

    fn fail(self, tally: &mut Tally, problem: &str, place: Option<TempDir>, told: &[String]) {
        tally.lost += 1;
        if self.lies {
            return;
        }
        let place: PathBuf = place.unwrap_or(self.root).keep();
        eprintln!(
            "power loss {} of seed {} was not survived: {problem}\n{}\nplay it again: STORE_POWER_SEED={} cargo nextest \
             run -p coracle-store --test power_loss, or open what it left: {}",
            self.loss,
            self.seed,
            told.join("\n"),
            self.seed,
            place.join(PLACE).display(),
        );
    }
}

fn describe(err: &OpenError) -> String {
    format!("the store does not open: {err}")
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().expect("a number"))
}

fn play(seeds: impl Iterator<Item = u64>, lies: bool) -> Tally {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut tally = Tally::default();
    for seed in seeds {
        runtime.block_on(Game::new(seed, lies).play(&mut tally));
    }
    tally
}

#[test]
fn whatever_a_power_loss_leaves_has_all_that_was_acknowledged() {
    let seeds = match number("STORE_POWER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("STORE_POWER_SEEDS").unwrap_or(80),
    };
    let tally = play(seeds, false);
    Attack::new("store: power loss at a random moment, what was not synced kept, lost or torn")
        .tried(tally.tried, tally.lost)
        .figure("power losses", tally.losses)
        .figure("kills before them", tally.kills)
        .figure("acknowledged writes", tally.writes)
        .figure("left a write broken off", tally.torn)
        .record();
}

/// Of seed 93: the names of a new store were not waited for by the one that found them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_maker_was_killed_outlives_a_power_loss() {
    let (mut random, mut tried) = (StdRng::seed_from_u64(93), 0);
    for killed_after in 0.. {
        let root = support::directory();
        let disk = Disk::of(root.path(), killed_after);
        let made = EmbeddedStore::open(options(root.path(), disk.faults()));
        let was_killed = made.is_err();
        drop(made);
        disk.go_on(u64::MAX);
        let (store, mut known) = (EmbeddedStore::open(options(root.path(), disk.faults())).unwrap(), Known::default());
        known.go_on(&store, 1, "/kept").await.unwrap();
        disk.cut();
        drop(store);
        for _ in 0..20 {
            let place = support::directory();
            let told = disk.leave(&mut random, place.path());
            let store = EmbeddedStore::open(options(place.path(), Faults::default())).unwrap();
            known.clone().check(&store).await.unwrap_or_else(|problem| panic!("{problem}\n{}", told.join("\n")));
            tried += 1;
        }
        if !was_killed {
            break;
        }
    }
    Attack::new("store: power loss after its maker was killed at any step").tried(tried, 0).record();
}

/// The game can be lost: with a disk that says it has what it has not.
#[test]
fn a_disk_that_lies_of_its_syncs_is_found_out() {
    let tally = play(1000..1020, true);
    assert!(tally.lost >= 10, "{} of 20 seeds lost something", tally.lost);
}
