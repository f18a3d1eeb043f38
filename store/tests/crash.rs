//! A writer process is killed with SIGKILL at random moments, again and again on the same data.
//!
//! The test starts itself as the writer, with [`DIRECTORY`] set. The writer tells on its standard output what was
//! acknowledged; after each kill the test opens the store and compares. `STORE_CRASH_ROUNDS` sets how often.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use faults::Attack;
use futures::StreamExt as _;
use store::backup::{self, State};
use store::embedded::{EmbeddedStore, LogOptions, OpenError, Options};
use store::{Expected, Limits, Range, Revision, Store, WatchEvent};

const DIRECTORY: &str = "STORE_CRASH_DIRECTORY";
const ROUNDS: &str = "STORE_CRASH_ROUNDS";
/// The name under which the writer is started.
const WRITER: &str = "a_writer_works_until_it_is_killed";
const TASKS: u64 = 8;

/// Small enough that checkpoints are being made and logs begun all the time.
fn options(directory: &Path) -> Options {
    let limits = Limits { history_events: 200, ..Limits::default() };
    let log = LogOptions { segment_bytes: 64 << 10, checkpoint_bytes: 128 << 10 };
    Options { limits, log, ..Options::at(directory) }
}

/// A value that shows when it is torn: its size and filling follow from its header.
fn value(task: u64, count: u64) -> Bytes {
    let mut value = format!("{task} {count} ").into_bytes();
    value.resize(value.len() + usize::try_from(count % 40).unwrap() * 500, b'a' + u8::try_from(count % 26).unwrap());
    value.into()
}

#[test]
fn a_writer_works_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(EmbeddedStore::open(options(Path::new(&directory))).unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            tasks.spawn(write(store.clone(), task));
        }
        tasks.join_all().await;
    });
}

/// Changes a few keys forever: creates, updates and deletes, and says so after each acknowledgement.
async fn write(store: Arc<EmbeddedStore>, task: u64) {
    let revision = store.revision().await.unwrap();
    for count in revision.. {
        let key = format!("/r/{task}/{}", count % 5);
        let current = store.get(&key).await.unwrap();
        let line = match current {
            Some(entry) if count % 7 == 0 => {
                let revision = store.delete(&key, entry.mod_revision).await.unwrap();
                format!("{revision} {key} -\n")
            }
            current => {
                let expected = current.map_or(Expected::Absent, |entry| Expected::Revision(entry.mod_revision));
                let revision = store.put(&key, value(task, count), expected, None).await.unwrap();
                format!("{revision} {key} {count}\n")
            }
        };
        // One write call, so that lines are whole.
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    }
}

/// What a key was last known to be: the count its value was made of, or `None` for deleted.
type Acknowledged = BTreeMap<String, (Revision, Option<u64>)>;

#[tokio::test]
async fn no_acknowledged_write_is_lost_however_often_the_writer_is_killed() {
    if std::env::var_os(DIRECTORY).is_some() {
        return;
    }
    let rounds = std::env::var(ROUNDS).map_or(300, |rounds| rounds.parse().expect("a number of rounds"));
    let directory = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut newest, mut total) = (Acknowledged::new(), 1, 0);
    let (mut unfinished, mut torn) = (0, 0);
    for round in 0..rounds {
        // Now and then while it starts, else while it writes.
        let begun = round % 4 != 0;
        let lines = run_and_kill(directory.path(), begun, Duration::from_millis(rand::random_range(10..100)));
        total += lines.len();
        unfinished += usize::from(has_unfinished_file(directory.path()));
        match backup::check(directory.path()) {
            Ok(report) => torn += usize::from(matches!(report.state, State::Unclosed { torn: 1.. })),
            // It was killed before it made the store.
            Err(OpenError::Absent { .. }) if newest == 1 => {}
            Err(err) => panic!("round {round}: {err}"),
        }
        let mut given_out = HashSet::new();
        for line in lines {
            let mut parts = line.split(' ');
            let revision: Revision = parts.next().unwrap().parse().unwrap();
            let key = parts.next().unwrap().to_owned();
            let count = parts.next().unwrap().parse().ok();
            assert!(revision > newest, "round {round}: revision {revision} was given out before {newest}");
            assert!(given_out.insert(revision), "round {round}: revision {revision} was given out twice");
            let known = acknowledged.entry(key).or_insert((0, None));
            if revision > known.0 {
                *known = (revision, count);
            }
        }
        // As often as not the next writer finds the files as the last one left them.
        let place = if round % 2 == 0 { None } else { Some(support::copy(directory.path())) };
        let place = place.as_ref().unwrap_or(&directory);
        (newest, acknowledged) = check(place.path(), &acknowledged, newest, round).await;
    }
    Attack::new("store: SIGKILL at random moments, checkpoints among them")
        .tried(rounds as u64, 0)
        .figure("acknowledged writes", total)
        .figure("kills that left an unfinished checkpoint", unfinished)
        .figure("kills that left a write broken off", torn)
        .figure("lost writes", 0)
        .record();
    assert!(total > rounds, "the writer hardly wrote");
}

fn has_unfinished_file(directory: &Path) -> bool {
    let mut files = std::fs::read_dir(directory).unwrap();
    files.any(|file| file.unwrap().file_name().to_str().unwrap().ends_with(".new"))
}

/// Runs the writer for so long, from its first line on if it has `begun`, and returns the whole lines it wrote.
fn run_and_kill(directory: &Path, begun: bool, after: Duration) -> Vec<String> {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", WRITER, "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let output = BufReader::new(writer.stdout.take().unwrap());
    let (first, begins) = std::sync::mpsc::sync_channel(1);
    let reader = std::thread::spawn(move || {
        let whole = output.split(b'\n').map_while(Result::ok).filter_map(|line| String::from_utf8(line).ok());
        let mut lines = whole.filter(|line| line.contains(" /r/")).peekable();
        lines.peek();
        // Whoever waits for the first line may not.
        let _ = first.send(());
        lines.collect::<Vec<_>>()
    });
    if begun {
        // Without a line it has ended, which is found below.
        let _ = begins.recv_timeout(Duration::from_secs(30));
    }
    std::thread::sleep(after);
    writer.kill().unwrap();
    let status = writer.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "the writer ended by itself");
    let mut lines = reader.join().unwrap();
    // The last one may be cut short.
    lines.pop();
    lines.retain_mut(|line| {
        // The harness writes the test's name before the first line.
        if let Some(start) = line.find("... ") {
            line.drain(..start + 4);
        }
        line.starts_with(|first: char| first.is_ascii_digit())
    });
    lines
}

/// Opens the store and checks it against what was acknowledged. Returns its newest revision, and what is known now.
async fn check(
    directory: &Path,
    acknowledged: &Acknowledged,
    before: Revision,
    round: usize,
) -> (Revision, Acknowledged) {
    let store = EmbeddedStore::open(options(directory)).unwrap_or_else(|err| panic!("round {round}: {err}"));
    let newest = store.revision().await.unwrap();
    assert!(newest >= before, "round {round}: revision went back from {before} to {newest}");
    let page = store.list(Range { prefix: "/".into(), ..Range::default() }).await.unwrap();
    let found: BTreeMap<_, _> = page.entries.iter().map(|entry| (entry.key.to_string(), entry)).collect();
    let mut known: Acknowledged = acknowledged.keys().map(|key| (key.clone(), (newest, None))).collect();
    for (key, entry) in &found {
        let text = String::from_utf8(entry.value.to_vec()).unwrap();
        let mut parts = text.split(' ');
        let (task, count) = (parts.next().unwrap().parse().unwrap(), parts.next().unwrap().parse().unwrap());
        assert_eq!(entry.value, value(task, count), "round {round}: {key} is torn");
        known.insert(key.clone(), (entry.mod_revision, Some(count)));
    }
    for (key, &(revision, count)) in acknowledged {
        match (found.get(key), count) {
            // A write that was made but not acknowledged in time may have replaced it.
            (Some(entry), _) if entry.mod_revision > revision => {}
            (Some(entry), Some(count)) => {
                let start = format!(" {count} ");
                assert_eq!(entry.mod_revision, revision, "round {round}: {key} is older than acknowledged");
                assert!(entry.value[1..].starts_with(start.as_bytes()), "round {round}: {key} has another value");
            }
            (None, None) => {}
            (None, Some(_)) => assert!(deleted_after(&store, key, revision).await, "round {round}: {key} is lost"),
            (Some(_), None) => panic!("round {round}: the deletion of {key} is lost"),
        }
    }
    store.close().await.unwrap();
    (newest, known)
}

/// Whether history has an unacknowledged deletion of a key.
async fn deleted_after(store: &EmbeddedStore, key: &str, revision: Revision) -> bool {
    let oldest = match store.watch(key, Some(revision)).await {
        Ok(mut watch) => loop {
            match watch.next().await {
                Some(Ok(WatchEvent::Delete { .. })) => return true,
                Some(Ok(WatchEvent::Put { .. })) => {}
                _ => return false,
            }
        },
        Err(store::Error::Compacted { oldest, .. }) => oldest,
        Err(err) => panic!("{err}"),
    };
    // The key was last written before what history still holds, so a lost write cannot hide there.
    panic!("{key} is gone and history begins at {oldest}");
}
