//! What only a store in another process can do: go away, come back, and be shared.

use std::time::{Duration, Instant};

use store::etcd::{EtcdStore, Options};
use store::{Error, Expected, Store, WatchEvent};

use super::checks::{change, create};
use super::etcd_server::{EtcdServer, connect};

/// Writes until etcd takes it.
pub(crate) async fn create_at_last(store: &EtcdStore, key: &str) -> u64 {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match store.put(key, "1".into(), Expected::Absent, None).await {
            Ok(revision) => return revision,
            Err(Error::Conflict { current, .. }) => return current.unwrap().mod_revision,
            Err(Error::Unavailable { .. } | Error::Unknown { .. }) if Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(err) => panic!("{err}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_after_etcd_was_killed() {
    let Some(mut server) = EtcdServer::start().await else { return };
    let store = connect(server.options()).await;
    let mut watch = store.watch("/r/", None).await.unwrap();
    let before = create(&store, "/r/a", "1").await;
    assert_eq!(change(&mut watch).await.revision(), before);
    server.kill();
    let err = store.check().await.unwrap_err();
    assert!(matches!(err, Error::Unavailable { .. }), "{err}");
    server.start_again().await;
    for name in ["/r/b", "/r/c"] {
        let revision = create_at_last(&store, name).await;
        assert_eq!(change(&mut watch).await.revision(), revision);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_when_etcd_compacted_what_it_has_not_seen() {
    let Some(mut server) = EtcdServer::start().await else { return };
    let mut store = connect(server.options()).await;
    let mut watch = store.watch("/r/", None).await.unwrap();
    create(&store, "/r/a", "1").await;
    change(&mut watch).await;
    // While ours cannot reach etcd, another client writes and compacts.
    server.kill();
    let other_port = server.start_elsewhere().await;
    let other = connect(Options::new([format!("http://127.0.0.1:{other_port}")])).await;
    for number in 0..5 {
        create(&other, &format!("/r/b{number}"), "1").await;
    }
    let newest = create(&other, "/r/c", "1").await;
    other.compact(newest).await.unwrap();
    drop(other);
    server.kill();
    server.start_again().await;
    let err = loop {
        match futures::StreamExt::next(&mut watch).await.expect("an error before the end") {
            Ok(WatchEvent::Progress(_)) => {}
            Ok(event) => panic!("{event:?} after a gap"),
            Err(err) => break err,
        }
    };
    assert!(matches!(err, Error::Compacted { .. }), "{err}");
    let mut watch = store.watch("/r/", Some(newest)).await.unwrap();
    let revision = create_at_last(&store, "/r/d").await;
    assert_eq!(change(&mut watch).await.revision(), revision);
    store = connect(server.options()).await;
    drop(store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_reaches_back_beyond_when_the_store_connected() {
    let Some(server) = EtcdServer::start().await else { return };
    let first = connect(server.options()).await;
    let mut revisions = Vec::new();
    for number in 0..20 {
        revisions.push(create(&first, &format!("/r/{number:02}"), "1").await);
        create(&first, &format!("/other/{number:02}"), "1").await;
    }
    let second = connect(server.options()).await;
    let mut watch = second.watch("/r/", Some(revisions[4])).await.unwrap();
    revisions.push(create(&first, "/r/20", "1").await);
    revisions.push(create(&second, "/r/21", "1").await);
    for &revision in &revisions[5..] {
        assert_eq!(change(&mut watch).await.revision(), revision);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_see_what_the_other_writes() {
    let Some(server) = EtcdServer::start().await else { return };
    let (one, two) = (connect(server.options()).await, connect(server.options()).await);
    let mut watch = two.watch("/r/", None).await.unwrap();
    let revision = create(&one, "/r/a", "1").await;
    assert_eq!(change(&mut watch).await.revision(), revision);
    assert_eq!(two.get("/r/a").await.unwrap().unwrap().mod_revision, revision);
    let outcome = two.put("/r/a", "2".into(), Expected::Absent, None).await;
    assert!(matches!(outcome, Err(Error::Conflict { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_down_does_no_harm_beside_one_that_is_up() {
    let Some(server) = EtcdServer::start().await else { return };
    let mut options = server.options();
    options.endpoints.insert(0, "http://127.0.0.1:1".into());
    let store = connect(options).await;
    for number in 0..20 {
        create(&store, &format!("/r/{number}"), "1").await;
    }
}

#[tokio::test]
async fn a_cluster_that_cannot_be_reached_is_an_error_that_says_so() {
    let err = EtcdStore::connect(Options::new(["http://127.0.0.1:1"])).await.err().unwrap();
    assert!(matches!(err, Error::Unavailable { .. }), "{err}");
    assert!(err.to_string().contains("refused"), "{err}");
    let none: [&str; 0] = [];
    assert!(EtcdStore::connect(Options::new(none)).await.is_err());
    assert!(EtcdStore::connect(Options::new(["not a url"])).await.is_err());
}
