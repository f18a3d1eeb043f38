//! Slow clients, in time that passes at once: see [`apiserver::fuzzing::slow_clients`].
//!
//! This file is compiled twice: by the fuzzer, and by a test of `apiserver` that runs a short while on every build.
#![allow(unreachable_pub, reason = "the fuzzer sees a library, the test a module")]

/// Plays one schedule. The clock is paused, which only tests and the fuzzer can.
///
/// # Panics
/// When something that must hold of it does not.
pub fn run(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime of one thread").block_on(apiserver::fuzzing::slow_clients(data));
}

/// Schedules to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    apiserver::fuzzing::seeds("slow_clients")
}
