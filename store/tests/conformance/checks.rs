//! The checks. Each gets a store that nothing was written to.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;
use store::{Entry, Error, Expected, MAX_ENTRY_BYTES, Range, Revision, Store, WatchEvent, WatchStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn create(store: &dyn Store, key: &str, value: &str) -> Revision {
    store.put(key, Bytes::copy_from_slice(value.as_bytes()), Expected::Absent, None).await.unwrap()
}

async fn update(store: &dyn Store, key: &str, value: &str, revision: Revision) -> Revision {
    let value = Bytes::copy_from_slice(value.as_bytes());
    store.put(key, value, Expected::Revision(revision), None).await.unwrap()
}

fn range(prefix: &str) -> Range {
    Range { prefix: prefix.into(), ..Range::default() }
}

/// The keys of a range, without its prefix.
async fn keys(store: &dyn Store, range: Range) -> Vec<String> {
    let prefix = range.prefix.len();
    store.list(range).await.unwrap().entries.iter().map(|entry| entry.key[prefix..].into()).collect()
}

/// The next event, be it progress.
async fn any(watch: &mut WatchStream) -> Option<Result<WatchEvent, Error>> {
    timeout(PATIENCE, watch.next()).await.expect("an event in time")
}

/// The next change.
pub(crate) async fn change(watch: &mut WatchStream) -> WatchEvent {
    loop {
        match any(watch).await.expect("no end").unwrap() {
            WatchEvent::Progress(_) => {}
            event => return event,
        }
    }
}

/// The error that opening a watch or its first item gives.
async fn refusal(store: &dyn Store, prefix: &str, after: Revision) -> Error {
    match store.watch(prefix, Some(after)).await {
        Err(err) => err,
        Ok(mut watch) => any(&mut watch).await.expect("no end").expect_err("no event"),
    }
}

pub(crate) async fn a_key_is_created_once(store: &dyn Store) {
    assert_eq!(store.get("/r/a").await.unwrap(), None);
    let revision = create(store, "/r/a", "1").await;
    let entry = Entry { key: "/r/a".into(), value: "1".into(), create_revision: revision, mod_revision: revision };
    assert_eq!(store.get("/r/a").await.unwrap(), Some(entry.clone()));
    match store.put("/r/a", "2".into(), Expected::Absent, None).await {
        Err(Error::Conflict { key, current }) => assert_eq!((key.as_str(), *current.unwrap()), ("/r/a", entry)),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_write_with_a_stale_revision_changes_nothing(store: &dyn Store) {
    let first = create(store, "/r/a", "1").await;
    let second = update(store, "/r/a", "2", first).await;
    for outcome in [
        store.put("/r/a", "3".into(), Expected::Revision(first), None).await,
        store.put("/r/a", "3".into(), Expected::Revision(second + 1), None).await,
        store.delete("/r/a", first).await,
    ] {
        assert!(matches!(outcome, Err(Error::Conflict { current: Some(entry), .. }) if entry.mod_revision == second));
    }
    let entry = store.get("/r/a").await.unwrap().unwrap();
    assert_eq!((entry.value, entry.create_revision, entry.mod_revision), ("2".into(), first, second));
}

pub(crate) async fn a_key_that_is_deleted_can_be_created_anew(store: &dyn Store) {
    let first = create(store, "/r/a", "1").await;
    let deleted = store.delete("/r/a", first).await.unwrap();
    assert_eq!(store.get("/r/a").await.unwrap(), None);
    let again = create(store, "/r/a", "2").await;
    assert!(first < deleted && deleted < again);
    assert_eq!(store.get("/r/a").await.unwrap().unwrap().create_revision, again);
}

pub(crate) async fn deleting_what_is_not_there_is_a_conflict(store: &dyn Store) {
    for expected in [0, 1, 77] {
        let outcome = store.delete("/r/a", expected).await;
        assert!(matches!(outcome, Err(Error::Conflict { current: None, .. })), "{outcome:?}");
    }
    let outcome = store.put("/r/a", "1".into(), Expected::Revision(1), None).await;
    assert!(matches!(outcome, Err(Error::Conflict { current: None, .. })), "{outcome:?}");
}

pub(crate) async fn revisions_count_writes_and_failures_do_not_count(store: &dyn Store) {
    let start = store.revision().await.unwrap();
    assert!(start >= 1, "0 means something else to clients");
    let first = create(store, "/r/a", "1").await;
    store.put("/r/a", "2".into(), Expected::Absent, None).await.unwrap_err();
    let second = create(store, "/r/b", "1").await;
    assert_eq!((first, second), (start + 1, start + 2));
    assert_eq!(store.revision().await.unwrap(), second);
    assert_eq!(store.list(range("/none/")).await.unwrap().revision, second);
}

pub(crate) async fn lists_are_ordered_and_paged(store: &dyn Store) {
    for name in ["e", "b", "d", "a", "c"] {
        create(store, &format!("/r/{name}"), name).await;
    }
    create(store, "/q/z", "other").await;
    create(store, "/r", "other").await;
    create(store, "/s/a", "other").await;
    assert_eq!(keys(store, range("/r/")).await, ["a", "b", "c", "d", "e"]);
    let page = store.list(Range { limit: Some(2), ..range("/r/") }).await.unwrap();
    assert_eq!((page.entries.len(), page.remaining, page.revision), (2, 3, store.revision().await.unwrap()));
    let after = Some(page.entries[1].key.to_string());
    let page = store.list(Range { limit: Some(2), after, ..range("/r/") }).await.unwrap();
    assert_eq!((&*page.entries[0].key, page.entries.len(), page.remaining), ("/r/c", 2, 1));
    let page = store.list(Range { after: Some("/r/dd".into()), limit: Some(9), ..range("/r/") }).await.unwrap();
    assert_eq!((page.entries.len(), page.remaining), (1, 0));
    let page = store.list(Range { limit: Some(0), ..range("/r/") }).await.unwrap();
    assert_eq!((page.entries.len(), page.remaining), (0, 5));
    assert_eq!(keys(store, Range { after: Some("/a".into()), ..range("/r/") }).await.len(), 5);
    assert_eq!(keys(store, Range { after: Some("/z".into()), ..range("/r/") }).await.len(), 0);
    assert_eq!(keys(store, range("")).await.len(), 8);
}

pub(crate) async fn a_list_at_a_past_revision_shows_the_past(store: &dyn Store) {
    let a = create(store, "/r/a", "1").await;
    let b = create(store, "/r/b", "1").await;
    update(store, "/r/a", "2", a).await;
    store.delete("/r/b", b).await.unwrap();
    create(store, "/r/c", "1").await;
    let page = store.list(Range { revision: Some(b), ..range("/r/") }).await.unwrap();
    assert_eq!(page.revision, b);
    let seen: Vec<_> = page.entries.iter().map(|entry| (&*entry.key, &*entry.value, entry.mod_revision)).collect();
    assert_eq!(seen, [("/r/a", &b"1"[..], a), ("/r/b", b"1", b)]);
    assert_eq!(keys(store, Range { revision: Some(a), ..range("/r/") }).await, ["a"]);
    assert_eq!(keys(store, Range { revision: Some(1), ..range("/r/") }).await, [""; 0]);
}

pub(crate) async fn a_page_of_the_past_counts_what_remained_then(store: &dyn Store) {
    let mut revisions = Vec::new();
    for number in 0..10 {
        revisions.push(create(store, &format!("/r/{number}"), "1").await);
    }
    let then = *revisions.last().unwrap();
    for (number, &revision) in revisions.iter().enumerate().skip(5).take(3) {
        store.delete(&format!("/r/{number}"), revision).await.unwrap();
    }
    create(store, "/r/55", "1").await;
    let past = Range { revision: Some(then), limit: Some(4), ..range("/r/") };
    let page = store.list(past.clone()).await.unwrap();
    assert_eq!((page.entries.len(), page.remaining), (4, 6));
    let page = store.list(Range { after: Some("/r/3".into()), ..past.clone() }).await.unwrap();
    let names: Vec<_> = page.entries.iter().map(|entry| &entry.key[3..]).collect();
    assert_eq!((names, page.remaining), (vec!["4", "5", "6", "7"], 2));
    let page = store.list(Range { revision: None, ..past }).await.unwrap();
    assert_eq!(page.remaining, 4);
}

pub(crate) async fn a_list_longer_than_a_message_is_complete(store: &dyn Store) {
    let value = Bytes::from(vec![b'x'; 10_000]);
    let puts = (0..1200).map(|number| {
        let (key, value) = (format!("/r/{number:04}"), value.clone());
        async move { store.put(&key, value, Expected::Absent, None).await.unwrap() }
    });
    join_all(puts).await;
    let page = store.list(range("/r/")).await.unwrap();
    assert_eq!((page.entries.len(), page.remaining), (1200, 0));
    assert!(page.entries.iter().enumerate().all(|(number, entry)| *entry.key == *format!("/r/{number:04}")));
    let page = store.list(Range { limit: Some(700), ..range("/r/") }).await.unwrap();
    assert_eq!((page.entries.len(), page.remaining), (700, 500));
}

pub(crate) async fn revisions_beyond_the_newest_are_refused(store: &dyn Store) {
    let newest = create(store, "/r/a", "1").await;
    let asked = newest + 5;
    let is_future = |err: Error| matches!(err, Error::Future { asked: a, newest: n } if (a, n) == (asked, newest));
    assert!(is_future(store.list(Range { revision: Some(asked), ..range("/r/") }).await.unwrap_err()));
    assert!(is_future(refusal(store, "/r/", asked).await));
    assert!(is_future(store.compact(asked).await.unwrap_err()));
}

pub(crate) async fn compacted_revisions_are_refused(store: &dyn Store) {
    let first = create(store, "/r/a", "1").await;
    let second = update(store, "/r/a", "2", first).await;
    let third = store.delete("/r/a", second).await.unwrap();
    let newest = create(store, "/r/b", "1").await;
    // A store that follows another must have seen what is compacted, or it begins anew after all of it.
    let mut seen = store.watch("/r/", Some(first)).await.unwrap();
    while change(&mut seen).await.revision() < newest {}
    store.compact(third).await.unwrap();
    let is_gone =
        |err: Error, asked| matches!(err, Error::Compacted { asked: a, oldest } if (a, oldest) == (asked, third));
    for asked in [first, second] {
        assert!(is_gone(store.list(Range { revision: Some(asked), ..range("/r/") }).await.unwrap_err(), asked));
        let err = refusal(store, "/r/", asked).await;
        assert!(matches!(err, Error::Compacted { asked: a, oldest } if (a, oldest) == (asked, third)), "{err:?}");
        assert!(is_gone(store.compact(asked).await.unwrap_err(), asked));
    }
    assert!(is_gone(store.compact(third).await.unwrap_err(), third));
    assert_eq!(keys(store, Range { revision: Some(third), ..range("/r/") }).await, [""; 0]);
    let mut watch = store.watch("/r/", Some(third)).await.unwrap();
    assert_eq!(change(&mut watch).await.revision(), third + 1);
    assert_eq!(keys(store, range("/r/")).await, ["b"]);
}

pub(crate) async fn a_watch_shows_each_change_with_the_value_before(store: &dyn Store) {
    let mut watch = store.watch("/r/", None).await.unwrap();
    let first = create(store, "/r/a", "1").await;
    let second = update(store, "/r/a", "2", first).await;
    let third = store.delete("/r/a", second).await.unwrap();
    let entry = |value: &'static str, mod_revision| Entry {
        key: "/r/a".into(),
        value: value.into(),
        create_revision: first,
        mod_revision,
    };
    let (one, two) = (entry("1", first), entry("2", second));
    assert_eq!(change(&mut watch).await, WatchEvent::Put { entry: one.clone(), previous: None });
    assert_eq!(change(&mut watch).await, WatchEvent::Put { entry: two.clone(), previous: Some(one) });
    let deleted = WatchEvent::Delete { key: "/r/a".into(), revision: third, previous: Some(two) };
    assert_eq!(change(&mut watch).await, deleted);
}

pub(crate) async fn a_watch_from_the_past_replays_and_goes_on(store: &dyn Store) {
    let mut revisions = Vec::new();
    for number in 0..50 {
        revisions.push(create(store, &format!("/r/{number}"), "1").await);
    }
    let mut watch = store.watch("/r/", Some(revisions[9])).await.unwrap();
    let mut beginning = store.watch("/r/", Some(1)).await.unwrap();
    for &revision in &revisions[10..30] {
        assert_eq!(change(&mut watch).await.revision(), revision);
    }
    for number in 50..60 {
        revisions.push(create(store, &format!("/r/{number}"), "1").await);
    }
    for &revision in &revisions[30..] {
        assert_eq!(change(&mut watch).await.revision(), revision);
    }
    for &revision in &revisions {
        assert_eq!(change(&mut beginning).await.revision(), revision);
    }
}

pub(crate) async fn a_watch_sees_only_its_prefix(store: &dyn Store) {
    let mut watch = store.watch("/r/pods/", None).await.unwrap();
    let mut one = store.watch("/r/pods/a", None).await.unwrap();
    for key in ["/r/pods", "/r/podsx/a", "/r/nodes/a", "/r/pods/b", "/r/pods/a"] {
        create(store, key, "1").await;
    }
    assert_eq!(&**change(&mut watch).await.key().unwrap(), "/r/pods/b");
    assert_eq!(&**change(&mut watch).await.key().unwrap(), "/r/pods/a");
    assert_eq!(&**change(&mut one).await.key().unwrap(), "/r/pods/a");
}

pub(crate) async fn many_watches_each_get_their_own(store: &dyn Store) {
    let prefixes: Vec<_> = (0..100).map(|number| format!("/r/{number:02}/")).collect();
    let mut watches = Vec::new();
    for prefix in &prefixes {
        watches.push(store.watch(prefix, None).await.unwrap());
    }
    let mut revisions = Vec::new();
    for prefix in &prefixes {
        revisions.push(create(store, &format!("{prefix}a"), "1").await);
        create(store, &format!("{prefix}b"), "1").await;
    }
    for (watch, revision) in watches.iter_mut().zip(revisions) {
        assert_eq!(change(watch).await.revision(), revision);
        assert_eq!(change(watch).await.revision(), revision + 1);
    }
}

pub(crate) async fn progress_follows_every_event_before_it(store: &dyn Store) {
    let mut watch = store.watch("/r/", None).await.unwrap();
    let mut delivered = HashSet::new();
    for round in 0..20 {
        let mut written = Vec::new();
        for number in 0..10 {
            written.push(create(store, &format!("/r/{round}/{number}"), "1").await);
        }
        store.request_progress().await.unwrap();
        let newest = *written.last().unwrap();
        loop {
            match any(&mut watch).await.unwrap().unwrap() {
                WatchEvent::Progress(revision) if revision >= newest => break,
                WatchEvent::Progress(_) => {}
                event => assert!(delivered.insert(event.revision())),
            }
        }
        assert!(written.iter().all(|revision| delivered.contains(revision)));
    }
}

pub(crate) async fn progress_comes_on_a_quiet_watch_and_after_a_replay(store: &dyn Store) {
    let mut quiet = store.watch("/quiet/", None).await.unwrap();
    let first = create(store, "/r/a", "1").await;
    let newest = create(store, "/r/b", "1").await;
    let mut replay = store.watch("/r/", Some(first)).await.unwrap();
    store.request_progress().await.unwrap();
    for (watch, changes) in [(&mut quiet, 0), (&mut replay, 1)] {
        let mut seen = 0;
        loop {
            match any(watch).await.unwrap().unwrap() {
                WatchEvent::Progress(revision) if revision >= newest => break,
                WatchEvent::Progress(_) => {}
                _ => seen += 1,
            }
        }
        assert_eq!(seen, changes);
    }
}

pub(crate) async fn a_reader_that_pauses_misses_nothing_or_is_told(store: &dyn Store) {
    let mut watch = store.watch("/r/", None).await.unwrap();
    let mut written = vec![create(store, "/r/a", "1").await];
    assert_eq!(change(&mut watch).await.revision(), written[0]);
    let puts = (0..10_000).map(|number| async move {
        store.put(&format!("/r/{number}"), Bytes::from_static(b"x"), Expected::Absent, None).await.unwrap()
    });
    written.extend(join_all(puts).await);
    written.sort_unstable();
    for &revision in &written[1..] {
        match any(&mut watch).await.expect("an error before the end") {
            Ok(event) => assert_eq!(event.revision(), revision),
            Err(Error::TooSlow) => {
                assert!(any(&mut watch).await.is_none());
                return;
            }
            Err(err) => panic!("{err}"),
        }
    }
}

pub(crate) async fn a_key_expires_but_not_early(store: &dyn Store) {
    let ttl = Duration::from_secs(2);
    let mut watch = store.watch("/r/", None).await.unwrap();
    let start = Instant::now();
    let kept = store.put("/r/kept", "1".into(), Expected::Absent, None).await.unwrap();
    for name in ["/r/a", "/r/b"] {
        store.put(name, "1".into(), Expected::Absent, Some(ttl)).await.unwrap();
    }
    let mut gone = HashSet::new();
    while gone.len() < 2 {
        if let WatchEvent::Delete { key, previous, .. } = change(&mut watch).await {
            assert!(start.elapsed() >= ttl, "{key} after {:?}", start.elapsed());
            assert!(previous.is_some());
            gone.insert(key.to_string());
        }
    }
    assert_eq!(keys(store, range("/r/")).await, ["kept"]);
    assert_eq!(store.get("/r/kept").await.unwrap().unwrap().mod_revision, kept);
}

pub(crate) async fn a_write_without_a_time_to_live_keeps_the_key(store: &dyn Store) {
    let mut watch = store.watch("/r/", None).await.unwrap();
    let ttl = Some(Duration::from_secs(1));
    let first = store.put("/r/a", "1".into(), Expected::Absent, ttl).await.unwrap();
    update(store, "/r/a", "2", first).await;
    store.put("/r/b", "1".into(), Expected::Absent, Some(Duration::from_secs(2))).await.unwrap();
    let deleted = loop {
        if let WatchEvent::Delete { key, .. } = change(&mut watch).await {
            break key;
        }
    };
    assert_eq!(&*deleted, "/r/b");
    assert_eq!(store.get("/r/a").await.unwrap().unwrap().value, "2");
}

pub(crate) async fn writers_that_race_win_one_at_a_time(store: &dyn Store) {
    let revision = create(store, "/r/a", "0").await;
    let puts = (0..64).map(|number: u64| async move {
        let value = Bytes::from(number.to_string());
        store.put("/r/a", value, Expected::Revision(revision), None).await.map(|won| (number, won))
    });
    let won: Vec<_> = join_all(puts).await.into_iter().filter_map(Result::ok).collect();
    assert_eq!(won.len(), 1);
    let entry = store.get("/r/a").await.unwrap().unwrap();
    assert_eq!((entry.value, entry.mod_revision), (Bytes::from(won[0].0.to_string()), won[0].1));
}

pub(crate) async fn a_counter_incremented_by_many_loses_nothing(store: &dyn Store) {
    create(store, "/r/counter", "0").await;
    let increment = |_| async move {
        for _ in 0..20 {
            loop {
                let entry = store.get("/r/counter").await.unwrap().unwrap();
                let count: u64 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
                let value = Bytes::from((count + 1).to_string());
                match store.put("/r/counter", value, Expected::Revision(entry.mod_revision), None).await {
                    Ok(_) => break,
                    Err(Error::Conflict { .. }) => {}
                    Err(err) => panic!("{err}"),
                }
            }
        }
    };
    join_all((0..8).map(increment)).await;
    assert_eq!(store.get("/r/counter").await.unwrap().unwrap().value, "160");
}

pub(crate) async fn large_values_are_kept_and_larger_ones_refused(store: &dyn Store) {
    let value = |size: usize| Bytes::from((0..size).map(|at| (at % 251) as u8).collect::<Vec<_>>());
    let key = "/r/a";
    let mut watch = store.watch("/r/", None).await.unwrap();
    let largest = value(MAX_ENTRY_BYTES - key.len());
    store.put(key, largest.clone(), Expected::Absent, None).await.unwrap();
    assert_eq!(store.get(key).await.unwrap().unwrap().value, largest);
    assert!(matches!(change(&mut watch).await, WatchEvent::Put { entry, .. } if entry.value == largest));
    let outcome = store.put("/r/b", value(MAX_ENTRY_BYTES), Expected::Absent, None).await;
    assert!(matches!(outcome, Err(Error::TooLarge { key, limit: MAX_ENTRY_BYTES, .. }) if key == "/r/b"));
    assert_eq!(store.get("/r/b").await.unwrap(), None);
}

pub(crate) async fn odd_keys_and_empty_values_are_kept(store: &dyn Store) {
    let odd = ["/r/ü", "/r/日本", "/r/a b\n\t", "/r/%2F'\";--", "/r/\u{10ffff}", "/r//", "/r/\u{1}"];
    let mut watch = store.watch("/r/日", None).await.unwrap();
    for key in odd {
        store.put(key, Bytes::new(), Expected::Absent, None).await.unwrap();
    }
    let mut sorted = odd.to_vec();
    sorted.sort_unstable();
    let page = store.list(range("/r/")).await.unwrap();
    assert_eq!(page.entries.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), sorted);
    assert!(page.entries.iter().all(|entry| entry.value.is_empty()));
    assert_eq!(&**change(&mut watch).await.key().unwrap(), "/r/日本");
}

pub(crate) async fn a_store_says_that_it_is_well(store: &dyn Store) {
    store.check().await.unwrap();
}
