//! `[sig-auth]` and `[sig-apps]`: what pods are given of their account, and replicas that answer.

mod accounts;
mod replicas;

use e2e::Case;

pub(crate) const CASES: &[Case] = &[
    Case { name: "account-is-mounted", play: accounts::mounted },
    Case { name: "account-is-not-wanted", play: accounts::opted_out },
    Case { name: "account-token-is-projected", play: accounts::projected },
    Case { name: "replica-set-answers", play: replicas::replica_set },
    Case { name: "replication-controller-answers", play: replicas::replication_controller },
];
