//! Plays seeds, each in a process of its own, as many at once as there are processors.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read as _;
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use simulation::plan::Plan;

/// Seeds of the test command.
const SEEDS: Range<u64> = 0..40;
/// A seed that takes longer hangs: most take a second or two.
const PATIENCE: Duration = Duration::from_secs(180);

fn play(seed: u64, lines: bool) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simulation"));
    command.arg(seed.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if lines {
        command.env("SIMULATION_LINES", "1000000");
    }
    command.spawn().unwrap()
}

/// What a seed says; `Err` if something was wrong with it.
fn outcome(seed: u64, lines: bool) -> Result<String, String> {
    let mut child = play(seed, lines);
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = thread::spawn(move || {
        let (mut text, mut errors) = (String::new(), String::new());
        out.read_to_string(&mut text).unwrap();
        err.read_to_string(&mut errors).unwrap();
        (text, errors)
    });
    let began = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if began.elapsed() > PATIENCE => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => thread::park_timeout(Duration::from_millis(5)),
        }
    };
    let (text, errors) = read.join().unwrap();
    match status {
        Some(status) if status.success() => Ok(text),
        Some(_) => Err(format!("{text}{errors}")),
        None => Err(format!("seed {seed} goes on and on\n{text}{errors}")),
    }
}

/// Which seeds are wanted.
fn seeds() -> Range<u64> {
    let number = |text: &str| text.trim().parse::<u64>().unwrap_or_else(|_| panic!("{text:?} is no seed"));
    if let Ok(seed) = env::var("SIMULATION_SEED") {
        return number(&seed)..number(&seed) + 1;
    }
    let Ok(text) = env::var("SIMULATION_SEEDS") else { return SEEDS };
    let (from, to) = text.split_once("..").unwrap_or_else(|| panic!("SIMULATION_SEEDS={text} is not FROM..TO"));
    number(from)..number(to)
}

#[test]
fn whatever_happens_the_cluster_keeps_its_promises() {
    let (seeds, began) = (seeds(), Instant::now());
    let next = AtomicU64::new(seeds.start);
    let is_one = seeds.end == seeds.start + 1;
    let worker = || {
        let mut failures = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return failures;
            }
            match outcome(seed, false) {
                Ok(text) if is_one => println!("{text}"),
                Ok(_) => {}
                Err(text) => failures.push((seed, text)),
            }
        }
    };
    let count = thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    println!("{} seeds in {:?}", seeds.end - seeds.start, began.elapsed());
    failures.iter().for_each(|(_, text)| println!("{text}"));
    let failed: Vec<_> = failures.iter().map(|(seed, _)| seed).collect();
    assert!(failures.is_empty(), "seeds {failed:?} failed; SIMULATION_SEED={} plays the first again", failed[0]);
}

/// But for those in which the API server is started anew: see the crate's header.
#[test]
fn a_seed_is_the_same_story_whenever_it_is_told() {
    for seed in (1..).filter(|seed| !Plan::of(*seed).disasters.servers).take(3) {
        let (first, again) = (outcome(seed, true), outcome(seed, true));
        if first != again {
            let (first, again) = (first.unwrap_or_else(|text| text), again.unwrap_or_else(|text| text));
            let lines = first.lines().zip(again.lines()).find(|(one, other)| one != other);
            panic!("seed {seed} becomes another story: {lines:#?}");
        }
    }
}
