//! Input that means harm: each gets the status that upstream gives it, in bounded time and memory, and the server goes
//! on.

mod bodies;
mod definitions;
mod network;
mod patches;
mod queries;
mod readers;
mod senders;
mod watches;

use std::time::Duration;

use api::codec::protobuf;
use http::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client};

/// No answer takes longer, not even from an unoptimised server on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// Nothing here makes the process (of one test) larger than this.
const MEGABYTES: usize = 768;

/// Awaits an answer that must come in time.
async fn in_time<T>(what: &str, answer: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// Asserts that the process has stayed small. Only where tests have processes of their own does that say something.
fn assert_small() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
    let alone = std::env::var_os("NEXTEST").is_some();
    assert!(!alone || kilobytes / 1024 < MEGABYTES, "{} MB at the peak", kilobytes / 1024);
}

/// Sends a body of a type and returns the answer.
async fn send(client: &Client, method: Method, path: &str, kind: &str, body: Vec<u8>) -> Answer {
    let what = format!("{method} {path} of {} bytes of {kind}", body.len());
    in_time(&what, client.send(method, path, &[("content-type", kind)], body)).await
}

/// Lists in lists, or objects in objects, so many levels deep.
fn nested(levels: usize, objects: bool) -> String {
    let (open, close) = if objects { ("{\"a\":", "}") } else { ("[", "]") };
    format!("{}1{}", open.repeat(levels), close.repeat(levels))
}

fn nested_value(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!({"a": inner}))
}

fn message(object: &Value) -> Vec<u8> {
    protobuf::encode(object).unwrap()
}
