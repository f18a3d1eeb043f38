//! What every store must do, checked on all backends: in memory, on disk, and in Debian's etcd.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod backups;
mod checks;
mod etcd_cluster;
mod etcd_only;
mod etcd_server;
mod lost_members;
mod migrations;
mod model;
mod tls;

use store::embedded::{EmbeddedStore, Options};

use etcd_server::{EtcdServer, connect};

/// Runs each check on each backend, with a new store of its own.
macro_rules! conformance {
    ($($module:ident :: $check:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                super::$module::$check(&super::EmbeddedStore::in_memory()).await;
            })*
        }
        mod on_disk {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let directory = tempfile::tempdir().unwrap();
                let store = super::EmbeddedStore::open(super::Options::at(directory.path())).unwrap();
                super::$module::$check(&store).await;
                store::Store::close(&store).await.unwrap();
            })*
        }
        mod in_etcd {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let Some(server) = super::EtcdServer::start().await else { return };
                let store = super::connect(server.options()).await;
                super::$module::$check(&store).await;
            })*
        }
    };
}

#[tokio::test]
async fn a_store_in_step_agrees_with_a_naive_model() {
    model::random_operations_agree_with_a_naive_model(&EmbeddedStore::in_step()).await;
    checks::a_watch_from_the_past_replays_and_goes_on(&EmbeddedStore::in_step()).await;
    checks::compacted_revisions_are_refused(&EmbeddedStore::in_step()).await;
}

conformance! {
    checks::a_key_is_created_once,
    checks::a_write_with_a_stale_revision_changes_nothing,
    checks::a_key_that_is_deleted_can_be_created_anew,
    checks::deleting_what_is_not_there_is_a_conflict,
    checks::revisions_count_writes_and_failures_do_not_count,
    checks::lists_are_ordered_and_paged,
    checks::a_list_at_a_past_revision_shows_the_past,
    checks::a_page_of_the_past_counts_what_remained_then,
    checks::a_list_longer_than_a_message_is_complete,
    checks::revisions_beyond_the_newest_are_refused,
    checks::compacted_revisions_are_refused,
    checks::a_watch_shows_each_change_with_the_value_before,
    checks::a_watch_from_the_past_replays_and_goes_on,
    checks::a_watch_sees_only_its_prefix,
    checks::many_watches_each_get_their_own,
    checks::progress_follows_every_event_before_it,
    checks::progress_comes_on_a_quiet_watch_and_after_a_replay,
    checks::a_reader_that_pauses_misses_nothing_or_is_told,
    checks::a_key_expires_but_not_early,
    checks::a_write_without_a_time_to_live_keeps_the_key,
    checks::writers_that_race_win_one_at_a_time,
    checks::a_counter_incremented_by_many_loses_nothing,
    checks::large_values_are_kept_and_larger_ones_refused,
    checks::odd_keys_and_empty_values_are_kept,
    checks::a_store_says_that_it_is_well,
    model::random_operations_agree_with_a_naive_model,
}
