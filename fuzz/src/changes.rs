//! What chance makes of seeds: the short run of fuzz targets that is part of the tests, on any toolchain.
//!
//! Tests of the crates whose inputs are fuzzed compile this file.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

/// How often each seed is changed, unless `CORACLE_FUZZ_CHANGES` says otherwise.
const CHANGES: u32 = 100;

/// One change of a seed, at a place that is a fraction of its length.
#[derive(Clone, Debug)]
enum Change {
    Flip {
        at: u16,
        bits: u8,
    },
    Cut {
        at: u16,
        length: u8,
    },
    Insert {
        at: u16,
        what: Vec<u8>,
    },
    /// Puts another value in the place of one of a document in JSON.
    Replace {
        at: u16,
        value: Value,
    },
    /// Copies a part of the seed to another place, many times.
    Repeat {
        from: u16,
        length: u8,
        times: u8,
    },
}

fn change() -> impl Strategy<Value = Change> {
    let token = prop::sample::select(
        [
            "{",
            "}",
            "[",
            "]",
            "\"",
            "null",
            "-1",
            "0",
            "9223372036854775808",
            "1e999",
            "true",
            "\\u0000",
            "\u{202e}",
            "",
            ",",
            ":",
            "$patch",
            "/",
            "~1",
            "(",
            ")",
            ".",
            "-",
            "\n",
            "&a *a",
            "!!binary",
            "ä",
            "\u{0}",
            " in (",
            "!",
            "Ei",
            "n",
        ]
        .map(|token| token.as_bytes().to_vec())
        .to_vec(),
    );
    prop_oneof![
        6 => (any::<u16>(), odd_value()).prop_map(|(at, value)| Change::Replace { at, value }),
        1 => (any::<u16>(), 1..=255_u8).prop_map(|(at, bits)| Change::Flip { at, bits }),
        1 => (any::<u16>(), any::<u8>()).prop_map(|(at, length)| Change::Cut { at, length }),
        1 => (any::<u16>(), token).prop_map(|(at, what)| Change::Insert { at, what }),
        1 => (any::<u16>(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, what)| Change::Insert { at, what }),
        1 => (any::<u16>(), 1..64_u8, 1..200_u8).prop_map(|(from, length, times)| Change::Repeat { from, length, times }),
    ]
}

fn odd_value() -> impl Strategy<Value = Value> {
    let odd = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e300),
        json!(0.5),
        json!(""),
        json!("a"),
        json!("ä/../%00"),
        json!("99999999999999999999"),
        json!("-1"),
        json!("1e1000000"),
        json!("10.0.0.0/33"),
        json!("2026-02-30T25:61:61Z"),
        json!("x".repeat(300)),
        json!([]),
        json!([null, {}, [], "a", 1]),
        json!({}),
        json!({"": null, "name": "a", "key": {"name": []}}),
    ];
    prop::sample::select(odd.to_vec())
}

/// Replaces the value at a place, counted over all values of all documents of the seed.
fn replaced(data: &[u8], at: u16, value: &Value) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = data.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let count = lines.len();
    let line = &mut lines[usize::from(at) % count];
    // Some targets read a number before the document.
    let head = line.iter().take_while(|byte| **byte < b' ').count();
    let Ok(mut document) = serde_json::from_slice::<Value>(&line[head..]) else { return data.to_vec() };
    let mut left = usize::from(at) % (1 + size(&document));
    replace_nth(&mut document, &mut left, value);
    line.truncate(head);
    line.extend_from_slice(document.to_string().as_bytes());
    lines.join(&b'\n')
}

fn size(value: &Value) -> usize {
    match value {
        Value::Object(fields) => 1 + fields.values().map(size).sum::<usize>(),
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        _ => 1,
    }
}

fn replace_nth(value: &mut Value, left: &mut usize, with: &Value) {
    if *left == 0 {
        value.clone_from(with);
    }
    *left = left.wrapping_sub(1);
    match value {
        _ if *left == usize::MAX => {}
        Value::Object(fields) => fields.values_mut().for_each(|field| replace_nth(field, left, with)),
        Value::Array(items) => items.iter_mut().for_each(|item| replace_nth(item, left, with)),
        _ => {}
    }
}

fn changed(seed: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut data = seed.to_vec();
    for change in changes {
        let place = |at: u16| usize::from(at) * data.len() / (usize::from(u16::MAX) + 1);
        match change {
            Change::Flip { at, bits } => {
                let at = place(*at);
                if let Some(byte) = data.get_mut(at) {
                    *byte ^= bits;
                }
            }
            Change::Cut { at, length } => {
                let at = place(*at);
                data.drain(at..(at + usize::from(*length)).min(data.len()));
            }
            Change::Insert { at, what } => {
                let at = place(*at);
                data.splice(at..at, what.iter().copied());
            }
            Change::Replace { at, value } => data = replaced(&data, *at, value),
            Change::Repeat { from, length, times } => {
                let at = place(*from);
                let part = data[at..(at + usize::from(*length)).min(data.len())].repeat(usize::from(*times));
                data.splice(at..at, part);
            }
        }
    }
    data
}

/// The seeds that are kept for a target in `fuzz/seeds`, as seen from the folder of a crate.
pub(crate) fn kept_seeds(manifest_dir: &str, target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(manifest_dir).join("../fuzz/seeds").join(target);
    let mut paths: Vec<_> = fs::read_dir(&directory).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Runs a target on each of its seeds and on what changes make of them: the same ones in every run, so that a test says
/// the same of the same code, or others each time where `CORACLE_FUZZ_CHANGES` says how many.
pub(crate) fn check(target: &str, seeds: &[Vec<u8>], run: impl Fn(&[u8])) {
    let asked: Option<u32> = std::env::var("CORACLE_FUZZ_CHANGES").ok().map(|text| text.parse().unwrap());
    assert!(!seeds.is_empty(), "{target} has no seeds");
    for seed in seeds {
        run(seed);
        // A runner counts what went well over all that it runs, and is done with its cases after one seed.
        let config = Config { cases: asked.unwrap_or(CHANGES), failure_persistence: None, ..Config::default() };
        let mut runner = match asked {
            Some(_) => TestRunner::new(config),
            None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
        };
        let outcome = runner.run(&prop::collection::vec(change(), 1..5), |changes| {
            run(&changed(seed, &changes));
            Ok(())
        });
        outcome.unwrap_or_else(|err| panic!("{target}: {err}\nseed: {}", String::from_utf8_lossy(seed)));
    }
}
