//! System calls that containers have little reason for, as the runtime's watchman tells of them: counted for metrics,
//! and unusual ones recorded as events of their pods.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use runtime::{SyscallVerdict, UnusualCall, WatchedCalls};

/// The metric's name.
const METRIC: &str = "coracle_container_watched_syscalls_total";
/// The runtime's list of calls is shorter than this.
const MAX_SERIES: usize = 256;

/// Counts of watched calls on this node, by call and verdict.
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<BTreeMap<(String, SyscallVerdict), u64>>);

impl Counts {
    /// Adds what the runtime counted.
    pub(crate) fn add(&self, calls: &WatchedCalls) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for one in &calls.counts {
            let key = (one.call.clone(), one.verdict);
            if counts.len() < MAX_SERIES || counts.contains_key(&key) {
                *counts.entry(key).or_default() += one.count;
            }
        }
    }

    /// The counts in the Prometheus text format.
    pub(crate) fn encode(&self) -> String {
        let mut text = format!(
            "# HELP {METRIC} System calls of containers that are watched, by verdict\n# TYPE {METRIC} counter\n"
        );
        for ((call, verdict), count) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{METRIC}{{syscall={call:?},verdict={:?}}} {count}", verdict.as_str());
        }
        text
    }
}

/// An event's reason and message.
pub(crate) fn event(unusual: &UnusualCall) -> (&'static str, String) {
    let UnusualCall { call, program, reason, refused } = unusual;
    let (name, outcome) =
        if *refused { ("RefusedSystemCall", "was refused") } else { ("UnusualSystemCall", "went on") };
    (name, format!("System call {call} of {program} is unusual and {outcome}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::CallCount;

    fn calls(call: &str, verdict: SyscallVerdict, count: u64) -> WatchedCalls {
        WatchedCalls { counts: vec![CallCount { call: call.to_owned(), verdict, count }], unusual: Vec::new() }
    }

    #[test]
    fn counts_add_up_by_call_and_verdict() {
        let counts = Counts::default();
        counts.add(&calls("mount", SyscallVerdict::Expected, 2));
        counts.add(&calls("mount", SyscallVerdict::Expected, 3));
        counts.add(&calls("mount", SyscallVerdict::Refused, 1));
        let text = counts.encode();
        assert!(text.contains("{syscall=\"mount\",verdict=\"expected\"} 5\n"), "{text}");
        assert!(text.contains("{syscall=\"mount\",verdict=\"refused\"} 1\n"), "{text}");
    }

    #[test]
    fn there_are_never_more_series_than_fit() {
        let counts = Counts::default();
        for number in 0..10_000 {
            counts.add(&calls(&format!("call{number}"), SyscallVerdict::Unusual, 1));
        }
        assert_eq!(counts.encode().lines().count(), 2 + MAX_SERIES);
    }

    #[test]
    fn an_event_says_who_did_what_and_what_came_of_it() {
        let unusual = UnusualCall {
            call: "unshare".to_owned(),
            program: "nginx (/usr/sbin/nginx)".to_owned(),
            reason: "it has run for 500 s without such a call".to_owned(),
            refused: true,
        };
        let (reason, message) = event(&unusual);
        assert_eq!(reason, "RefusedSystemCall");
        assert_eq!(
            message,
            "System call unshare of nginx (/usr/sbin/nginx) is unusual and was refused: \
             it has run for 500 s without such a call"
        );
    }
}
