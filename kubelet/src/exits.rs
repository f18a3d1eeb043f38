//! How containers of this node have ended, counted for metrics (upstream: `kubelet_terminated_containers_total`).
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use runtime::Exit;

use crate::pod::Role;

const METRIC: &str = "kubelet_terminated_containers_total";
const HELP: &str = "Cumulative number of containers that have ended, by exit code and reason";
/// Programs choose their codes; there are no more reasons than the runtime has.
const MAX_SERIES: usize = 1024;

/// What is counted: the kind of container, its exit code and reason.
type Key = (&'static str, i32, String);

/// Counts of ends.
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<BTreeMap<Key, u64>>);

impl Counts {
    /// A container has ended. One that was gone before anybody had seen it counts as an ordinary one.
    pub(crate) fn add(&self, role: Option<Role>, exit: &Exit) {
        let kind = match role {
            Some(Role::Init | Role::Sidecar) => "init_container",
            Some(Role::Ephemeral) => "ephemeral_container",
            Some(Role::App) | None => "container",
        };
        let key = (kind, exit.code, exit.reason.clone());
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() < MAX_SERIES || counts.contains_key(&key) {
            *counts.entry(key).or_default() += 1;
        }
    }

    /// The counts in the Prometheus text format.
    pub(crate) fn encode(&self) -> String {
        let mut text = format!("# HELP {METRIC} {HELP}\n# TYPE {METRIC} counter\n");
        for ((kind, code, reason), count) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // Writing into a string cannot fail.
            let _ =
                writeln!(text, "{METRIC}{{container_type=\"{kind}\",exit_code=\"{code}\",reason={reason:?}}} {count}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn exit(code: i32, reason: &str) -> Exit {
        Exit {
            code,
            signal: None,
            started_at: None,
            finished_at: SystemTime::UNIX_EPOCH,
            reason: reason.to_owned(),
            message: String::new(),
        }
    }

    #[test]
    fn ends_are_told_apart_by_kind_code_and_reason() {
        let counts = Counts::default();
        for role in [Some(Role::App), None, Some(Role::Init)] {
            counts.add(role, &exit(139, "Error"));
        }
        counts.add(Some(Role::App), &exit(0, "Completed"));
        let text = counts.encode();
        for line in [
            "{container_type=\"container\",exit_code=\"0\",reason=\"Completed\"} 1",
            "{container_type=\"container\",exit_code=\"139\",reason=\"Error\"} 2",
            "{container_type=\"init_container\",exit_code=\"139\",reason=\"Error\"} 1",
        ] {
            assert!(text.contains(&format!("{METRIC}{line}\n")), "{text}");
        }
    }

    #[test]
    fn programs_that_choose_their_codes_do_not_fill_the_memory() {
        let counts = Counts::default();
        for code in 0..2000 {
            counts.add(None, &exit(code, "Error"));
        }
        assert_eq!(counts.encode().lines().count(), 2 + MAX_SERIES);
    }
}
