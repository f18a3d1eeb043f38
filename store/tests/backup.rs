//! Backups of the embedded store: made while it is written to, restored elsewhere, refused when damaged; and the way of a
//! store of an earlier version.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use faults::Attack;
use store::backup::{self, BackupError, State};
use store::embedded::{EmbeddedStore, OpenError, Options};
use store::{Entry, Error, Expected, Limits, Range, Store};
use support::{directory, small};

async fn create(store: &EmbeddedStore, key: &str, value: &str) -> u64 {
    store.put(key, value.to_owned().into(), Expected::Absent, None).await.unwrap()
}

async fn entries(store: &EmbeddedStore) -> Vec<Entry> {
    store.list(Range::default()).await.unwrap().entries
}

fn restored(backup: &Path, bump: u64) -> (tempfile::TempDir, EmbeddedStore) {
    let place = directory();
    backup::to_directory(backup, place.path(), bump).unwrap();
    let store = EmbeddedStore::open(Options::at(place.path())).unwrap();
    (place, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_store_that_is_written_to_has_all_that_was_acknowledged_and_one_revision() {
    let (place, backups) = (directory(), directory());
    let limits = Limits { history_events: 200, ..Limits::default() };
    let options = Options { limits, ..small(place.path()) };
    let store = Arc::new(EmbeddedStore::open(options).unwrap());
    let (acknowledged, stop) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicBool::new(false)));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let (store, acknowledged, stop) = (store.clone(), acknowledged.clone(), stop.clone());
        writers.spawn(async move {
            let mut expected = Expected::Absent;
            while !stop.load(Ordering::SeqCst) {
                let key = format!("/{writer}");
                let revision = store.put(&key, vec![writer; 900].into(), expected, None).await.unwrap();
                acknowledged.fetch_max(revision, Ordering::SeqCst);
                expected = Expected::Revision(revision);
            }
        });
    }
    let (rounds, mut wrong) = (20, 0);
    for round in 0..rounds {
        let before = acknowledged.load(Ordering::SeqCst);
        let (from, to) = (place.path().to_owned(), backups.path().join(round.to_string()));
        let to_file = to.clone();
        let made = tokio::task::spawn_blocking(move || backup::of_directory(&from, &to_file)).await.unwrap().unwrap();
        let report = backup::check(place.path()).unwrap();
        assert_eq!(report.state, State::InUse);
        let (_place, copy) = restored(&to, 0);
        let then = store.list(Range { revision: Some(made.revision), ..Range::default() }).await;
        // A store this busy may have compacted that revision meanwhile.
        let same = match then {
            Ok(page) => page.entries == entries(&copy).await,
            Err(Error::Compacted { .. }) => true,
            Err(err) => panic!("{err}"),
        };
        wrong += u64::from(made.revision < before || !same);
    }
    stop.store(true, Ordering::SeqCst);
    writers.join_all().await;
    Attack::new("store: backups while four writers and checkpoints work").tried(rounds, wrong).record();
}

#[tokio::test]
async fn a_restored_store_goes_on_later_and_keeps_what_expires() {
    let (place, backups) = (directory(), directory());
    let store = EmbeddedStore::open(Options::at(place.path())).unwrap();
    let first = create(&store, "/a", "1").await;
    create(&store, "/gone", "1").await;
    store.delete("/gone", store.revision().await.unwrap()).await.unwrap();
    let soon = Some(Duration::from_secs(5));
    store.put("/event", "1".into(), Expected::Absent, soon).await.unwrap();
    let (before, newest) = (entries(&store).await, store.revision().await.unwrap());
    let file = backups.path().join("backup");
    let made = backup::of_directory(place.path(), &file).unwrap();
    assert_eq!((made.revision, made.entries), (newest, 2));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(backup::verify(&file).unwrap(), made);
    assert_eq!(fs::read_dir(backups.path()).unwrap().count(), 1, "nothing else is left there");

    let (new, copy) = restored(&file, 1000);
    assert_eq!(entries(&copy).await, before);
    assert_eq!(copy.revision().await.unwrap(), newest + 1000);
    assert!(matches!(copy.watch("/", Some(newest)).await.err(), Some(Error::Compacted { .. })));
    let next = copy.put("/a", "2".into(), Expected::Revision(first), None).await.unwrap();
    assert_eq!(next, newest + 1001);
    let end = Instant::now() + Duration::from_secs(20);
    while copy.get("/event").await.unwrap().is_some() {
        assert!(Instant::now() < end, "the key does not expire");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(copy);
    let copy = EmbeddedStore::open(Options::at(new.path())).unwrap();
    assert_eq!(copy.get("/a").await.unwrap().unwrap().mod_revision, next);
}

#[tokio::test]
async fn nothing_is_overwritten() {
    let (place, backups) = (directory(), directory());
    let store = EmbeddedStore::open(Options::at(place.path())).unwrap();
    create(&store, "/a", "1").await;
    let file = backups.path().join("backup");
    backup::of_directory(place.path(), &file).unwrap();
    assert!(matches!(backup::of_directory(place.path(), &file), Err(BackupError::Exists { .. })));
    let in_use = backup::to_directory(&file, place.path(), 0);
    assert!(matches!(in_use, Err(BackupError::Open(OpenError::Locked { .. }))), "{in_use:?}");
    drop(store);
    assert!(matches!(backup::to_directory(&file, place.path(), 0), Err(BackupError::Exists { .. })));
    let too_far = backup::to_directory(&file, directory().path(), u64::MAX);
    assert!(matches!(too_far, Err(BackupError::Revision { .. })), "{too_far:?}");
    let none = backup::of_directory(directory().path(), &backups.path().join("none"));
    assert!(matches!(none, Err(BackupError::Open(OpenError::Absent { .. }))), "{none:?}");
    assert_eq!(fs::read_dir(backups.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_checkpoint_is_a_backup() {
    let place = directory();
    let store = EmbeddedStore::open(Options::at(place.path())).unwrap();
    create(&store, "/a", "1").await;
    store.close().await.unwrap();
    let mut files = fs::read_dir(place.path()).unwrap().map(|file| file.unwrap().path());
    let checkpoint = files.find(|path| path.to_str().unwrap().contains("checkpoint-")).unwrap();
    let (_place, copy) = restored(&checkpoint, 0);
    assert_eq!(entries(&copy).await, entries(&store).await);
}

#[tokio::test]
async fn a_damaged_backup_is_refused_before_anything_is_written() {
    let (place, backups) = (directory(), directory());
    let store = EmbeddedStore::open(Options::at(place.path())).unwrap();
    for number in 0..30 {
        create(&store, &format!("/{number}"), &"v".repeat(number)).await;
    }
    let file = backups.path().join("backup");
    backup::of_directory(place.path(), &file).unwrap();
    let content = fs::read(&file).unwrap();
    let (mut tried, mut taken) = (0, 0);
    let mut attempt = |bytes: &[u8]| {
        let (damaged, target) = (backups.path().join("damaged"), directory());
        fs::write(&damaged, bytes).unwrap();
        tried += 1;
        taken += u64::from(backup::to_directory(&damaged, target.path(), 0).is_ok());
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
    };
    for place in 0..content.len() {
        let mut bytes = content.clone();
        bytes[place] ^= 1 << (place % 8);
        attempt(&bytes);
        if place % 7 == 0 {
            attempt(&content[..place]);
        }
    }
    attempt(&[&content[..], b"x"].concat());
    // Lengths that claim more than there is.
    for place in (68..content.len() - 4).step_by(3) {
        let mut bytes = content.clone();
        bytes[place..place + 4].fill(0xff);
        attempt(&bytes);
    }
    Attack::new("store: damaged backups").tried(tried, taken).record();
}

/// The tables of the version that used SQLite.
const OLD: &str = "
import sqlite3, sys
sql = sqlite3.connect(sys.argv[1])
sql.executescript('''
    PRAGMA application_id = 0x4372636c; PRAGMA user_version = 1; PRAGMA journal_mode = WAL;
    CREATE TABLE changes (revision INTEGER PRIMARY KEY, create_revision INTEGER NOT NULL, expires INTEGER,
                          key TEXT NOT NULL, value BLOB) STRICT;
    CREATE TABLE state (compacted INTEGER NOT NULL) STRICT;
    INSERT INTO state VALUES (3);
    INSERT INTO changes VALUES (2, 2, NULL, '/a', x'31'), (4, 4, 99999999999, '/b', x'ff00'), (5, 4, NULL, '/b', x'32'),
                               (6, 6, NULL, '/c', x'33'), (7, 6, NULL, '/c', NULL), (8, 8, 99999999999, '/d', x'');
''')
sql.commit()
";

#[tokio::test]
async fn a_store_of_an_earlier_version_is_migrated_by_a_backup() {
    if Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("E2E_REQUIRED").is_none(), "python3 is not installed");
        eprintln!("SKIP: python3 is not installed");
        return;
    }
    let (old, backups) = (directory(), directory());
    let made = Command::new("python3").args(["-c", OLD]).arg(old.path().join("store.db")).status().unwrap();
    assert!(made.success());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrate-from-sqlite");
    let file = backups.path().join("backup");
    let migrate = || Command::new("python3").arg(&script).arg(old.path()).arg(&file).output().unwrap();
    let output = migrate();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!migrate().status.success(), "a backup is not overwritten");
    let contents = backup::verify(&file).unwrap();
    assert_eq!((contents.revision, contents.entries), (8, 3));
    let (_place, store) = restored(&file, 10);
    let found: BTreeMap<_, _> = entries(&store)
        .await
        .into_iter()
        .map(|entry| (entry.key.to_string(), (entry.create_revision, entry.mod_revision, entry.value)))
        .collect();
    let expected = [("/a", (2, 2, "1")), ("/b", (4, 5, "2")), ("/d", (8, 8, ""))];
    assert_eq!(found, expected.map(|(key, (created, at, value))| (key.to_owned(), (created, at, value.into()))).into());
    assert_eq!(create(&store, "/e", "1").await, 19);
}
