//! A cluster of three members of which one hangs, is cut off, or two are gone.

use std::time::{Duration, Instant};

use store::etcd::{EtcdStore, Options};
use store::{Error, Expected, Store, WatchEvent, WatchStream};

use super::checks::{change, create};
use super::etcd_cluster::Cluster;
use super::etcd_only::create_at_last;
use super::etcd_server::connect;

/// Upstream needs 7 s to notice that a member is cut off.
const UPSTREAM: Duration = Duration::from_secs(7);

/// How long a watch of the past may hang.
const PAST: Duration = Duration::from_secs(12);

/// A store that uses this member as long as it can.
async fn connect_to(cluster: &Cluster, member: usize) -> EtcdStore {
    connect(Options { first: Some(member), ..cluster.options() }).await
}

/// Waits until the watch shows the write of another store, and returns how long that took.
async fn shows(watch: &mut WatchStream, other: &EtcdStore, key: &str) -> Duration {
    let began = Instant::now();
    let revision = create_at_last(other, key).await;
    loop {
        let event = change(watch).await;
        if event.revision() == revision {
            return began.elapsed();
        }
    }
}

/// What an API server does all the time: it writes something of its own.
async fn live(store: &EtcdStore) {
    for number in 0.. {
        let _ = store.put(&format!("/own/{number}"), "1".into(), Expected::Absent, None).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn goes_on(cluster: &Cluster, member: usize, fault: impl FnOnce(&Cluster, usize)) -> Duration {
    let store = connect_to(cluster, member).await;
    let mut watch = store.watch("/r/", None).await.unwrap();
    create(&store, "/r/before", "1").await;
    change(&mut watch).await;
    let other = connect(cluster.only((member + 1) % 3)).await;
    fault(cluster, member);
    let shown = async { shows(&mut watch, &other, "/r/after").await };
    tokio::select! {
        took = shown => took,
        () = live(&store) => unreachable!(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_go_on_when_their_member_is_cut_off_from_the_others() {
    let Some(cluster) = Cluster::start().await else { return };
    let follower = (cluster.leader().await + 1) % 3;
    let took = goes_on(&cluster, follower, Cluster::cut).await;
    assert!(took < UPSTREAM, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_go_on_when_their_member_led_and_is_cut_off() {
    let Some(cluster) = Cluster::start().await else { return };
    let leader = cluster.leader().await;
    let took = goes_on(&cluster, leader, Cluster::cut).await;
    assert!(took < UPSTREAM + Duration::from_secs(3), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_go_on_when_their_member_hangs() {
    let Some(cluster) = Cluster::start().await else { return };
    let follower = (cluster.leader().await + 1) % 3;
    let took = goes_on(&cluster, follower, Cluster::freeze).await;
    cluster.thaw(follower);
    assert!(took < UPSTREAM, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_to_another_member_when_one_hangs() {
    let Some(cluster) = Cluster::start().await else { return };
    let follower = (cluster.leader().await + 1) % 3;
    let store = connect_to(&cluster, follower).await;
    create(&store, "/r/a", "1").await;
    cluster.freeze(follower);
    let began = Instant::now();
    assert!(store.get("/r/a").await.unwrap().is_some());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let again = Instant::now();
    store.put("/r/b", "1".into(), Expected::Absent, None).await.unwrap();
    assert!(again.elapsed() < Duration::from_secs(2), "it is asked once only: {:?}", again.elapsed());
    cluster.thaw(follower);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_nobody_answered_is_not_said_to_have_failed() {
    let Some(cluster) = Cluster::start().await else { return };
    let follower = (cluster.leader().await + 1) % 3;
    let store = connect_to(&cluster, follower).await;
    cluster.freeze(follower);
    let outcome = store.put("/r/a", "1".into(), Expected::Absent, None).await;
    assert!(matches!(outcome, Err(Error::Unknown { .. })), "{outcome:?}");
    cluster.thaw(follower);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_everything_fails_soon_and_works_again_with_one() {
    let Some(mut cluster) = Cluster::start().await else { return };
    let store = connect(cluster.options()).await;
    let mut watch = store.watch("/r/", None).await.unwrap();
    create(&store, "/r/a", "1").await;
    change(&mut watch).await;
    for member in [1, 2] {
        cluster.kill(member);
    }
    for _ in 0..3 {
        let began = Instant::now();
        let read = store.get("/r/a").await;
        assert!(matches!(read, Err(Error::Unavailable { .. })), "{read:?}");
        let written = store.put("/r/b", "1".into(), Expected::Absent, None).await;
        assert!(matches!(written, Err(Error::Unavailable { .. } | Error::Unknown { .. })), "{written:?}");
        assert!(began.elapsed() < Duration::from_secs(21), "{:?}", began.elapsed());
    }
    cluster.start_again(1);
    let revision = create_at_last(&store, "/r/c").await;
    while change(&mut watch).await.revision() != revision {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_the_past_ends_when_its_member_hangs() {
    let Some(cluster) = Cluster::start().await else { return };
    let follower = (cluster.leader().await + 1) % 3;
    let first = connect(cluster.options()).await;
    let past = create(&first, "/r/a", "1").await;
    for number in 0..5 {
        create(&first, &format!("/r/b{number}"), "1").await;
    }
    let store = connect_to(&cluster, follower).await;
    cluster.freeze(follower);
    let opened = tokio::time::timeout(UPSTREAM, store.watch("/r/", Some(past))).await.expect("an answer in time");
    if let Ok(mut watch) = opened {
        let first = tokio::time::timeout(PAST, futures::StreamExt::next(&mut watch)).await.expect("an end in time");
        assert!(!matches!(first, Some(Ok(WatchEvent::Progress(_)))), "{first:?}");
    }
    cluster.thaw(follower);
}
