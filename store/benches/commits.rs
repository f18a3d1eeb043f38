//! Durable creates of 1 KB values with so many writers at once, what they cost the disk, and how long the store takes to
//! open afterwards: `cargo bench -p coracle-store`. `COMMITS_IN` names the directory to work in; it should be on a disk.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use bytes::Bytes;
use futures::future::join_all;
use store::embedded::{EmbeddedStore, Options};
use store::{Expected, Store};

/// A pod of about the usual size.
const VALUE: usize = 1024;
/// A cluster of the largest size that upstream supports.
const MANY: u64 = 150_000;

fn value(number: u64) -> Bytes {
    (0..VALUE as u64).map(|at| ((at * number.wrapping_mul(0x9e37_79b9)) >> 7) as u8).collect::<Vec<_>>().into()
}

async fn create(store: &Arc<EmbeddedStore>, count: u64, writers: u64) -> Vec<Duration> {
    let tasks = (0..writers).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut took = Vec::new();
            for number in (writer..count).step_by(writers as usize) {
                let start = Instant::now();
                let key = format!("/registry/pods/default/{number:012}");
                store.put(&key, value(number), Expected::Absent, None).await.expect("the key is new");
                took.push(start.elapsed());
            }
            took
        })
    });
    join_all(tasks).await.into_iter().flat_map(|took| took.expect("no panic")).collect()
}

/// Bytes that this process has caused to be written so far (proc(5), io).
fn written() -> u64 {
    let io = fs::read_to_string("/proc/self/io").expect("Linux");
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).expect("the kernel counts");
    line.parse().expect("a number")
}

fn on_disk(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let files = fs::read_dir(directory).expect("the store's directory");
    files.map(|file| file.and_then(|file| file.metadata()).expect("a file").blocks() * 512).sum()
}

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel counts");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

fn main() {
    let place = env::var_os("COMMITS_IN").map_or_else(env::temp_dir, Into::into);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    println!("in flight | creates/s | p50 us | p99 us | p99.9 us | written per byte | bytes on disk per byte, closed");
    for (writers, count) in [(1, 4_000), (16, 40_000), (64, 100_000), (128, MANY)] {
        let directory = tempfile::tempdir_in(&place).expect("a temporary directory");
        let store = Arc::new(EmbeddedStore::open(Options::at(directory.path())).expect("a new store"));
        let (before, start) = (written(), Instant::now());
        let mut took = runtime.block_on(create(&store, count, writers));
        let elapsed = start.elapsed();
        let cost = written() - before;
        let start = Instant::now();
        runtime.block_on(store.close()).expect("the store closes");
        drop(store);
        let closed = start.elapsed();
        took.sort_unstable();
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_micros();
        let bytes = (count * VALUE as u64) as f64;
        println!(
            "{writers:>9} | {:>9.0} | {:>6} | {:>6} | {:>8} | {:>16.2} | {:.2} (closed in {closed:?})",
            count as f64 / elapsed.as_secs_f64(),
            at(0.5),
            at(0.99),
            at(0.999),
            cost as f64 / bytes,
            on_disk(directory.path()) as f64 / bytes,
        );
        if count == MANY {
            let (before, start) = (resident(), Instant::now());
            let store = EmbeddedStore::open(Options::at(directory.path())).expect("the store");
            println!("open {MANY} entries of 1 KB: {:?}, {} MiB more resident", start.elapsed(), resident() - before);
            drop(store);
        }
    }
    let mut took: Vec<_> = (0..50)
        .map(|_| {
            let directory = tempfile::tempdir_in(&place).expect("a temporary directory");
            let start = Instant::now();
            let store = EmbeddedStore::open(Options::at(directory.path())).expect("a new store");
            (start.elapsed(), store).0
        })
        .collect();
    took.sort_unstable();
    println!("open a new store: p50 {:?}, most {:?}", took[25], took[49]);
}
