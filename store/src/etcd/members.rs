//! The members of a cluster: one is used until it fails or falls silent, then the next.
//!
//! Which one is the first is left to chance, so that of several processes not all depend on the same member. Every request
//! asks for a member that has a leader (`hasleader`, as upstream's watches do): one that is cut off from the others says so
//! at once, rather than waiting for them.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use tokio::sync::watch;
use tokio::time::{self, Instant};

use super::convert::{is_overload, store_error};
use crate::{Error, Revision};

/// An operation that etcd does not answer for so long has failed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A member that does not answer for so long is left alone while there are others. A read then waits twice as long for the
/// next one, in case all of them are slow.
const SLOW: Duration = Duration::from_secs(2);
/// Each member is tried so often.
const ROUNDS: usize = 3;
/// How long to wait after all members failed, times the number of rounds.
const PAUSE: Duration = Duration::from_millis(200);

/// Clients of each member.
pub(super) struct Members {
    clients: Vec<Client>,
    current: watch::Sender<usize>,
    /// The newest revision that an answer told of.
    newest: watch::Sender<Revision>,
}

impl Members {
    /// Prepares clients; none connects before it is used. `first` says which one that is, or chance does.
    pub(super) async fn new(
        endpoints: &[String],
        first: Option<usize>,
        options: &ConnectOptions,
    ) -> Result<Self, Error> {
        if endpoints.is_empty() {
            return Err(Error::Unavailable { reason: "no etcd endpoint is configured".into() });
        }
        let mut clients = Vec::new();
        for endpoint in endpoints {
            let client = Client::connect([endpoint], Some(options.clone())).await;
            clients.push(client.map_err(|err| store_error("connect to etcd", err))?);
        }
        let first = first.filter(|first| *first < clients.len());
        let first = first.unwrap_or_else(|| rand::random_range(0..clients.len()));
        Ok(Self { clients, current: watch::Sender::new(first), newest: watch::Sender::new(0) })
    }

    /// The member in use.
    pub(super) fn current(&self) -> (usize, Client) {
        let member = *self.current.borrow();
        (member, self.clients[member].clone())
    }

    /// Has everyone use another member, if they still use this one.
    pub(super) fn avoid(&self, member: usize) {
        let next = (member + 1) % self.clients.len();
        self.current.send_if_modified(|current| {
            // If it has changed, someone else noticed first.
            let moves = *current == member && next != member;
            if moves {
                *current = next;
            }
            moves
        });
    }

    /// Tells of each time that everyone goes on to another member.
    pub(super) fn moves(&self) -> watch::Receiver<usize> {
        self.current.subscribe()
    }

    /// An answer told of this revision.
    pub(super) fn saw(&self, revision: Revision) {
        self.newest.send_if_modified(|newest| {
            let is_news = revision > *newest;
            *newest = revision.max(*newest);
            is_news
        });
    }

    /// The cluster was put back: what was told of later revisions holds no more.
    pub(super) fn saw_only(&self, revision: Revision) {
        self.newest.send_replace(revision);
    }

    /// The newest revision that any answer told of, as it grows.
    pub(super) fn newest(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }

    /// Does what may be done twice, such as a read, with whichever member answers.
    pub(super) async fn read<T, F>(&self, operation: &'static str, read: impl Fn(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.attempt(operation, Kind::Read, read).await
    }

    /// Does what must not be done twice: it is tried again only if it did not reach the member. [`Error::Unknown`] when
    /// it may have been done.
    pub(super) async fn write<T, F>(&self, operation: &'static str, write: impl Fn(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.attempt(operation, Kind::Write, write).await
    }

    async fn attempt<T, F>(&self, operation: &'static str, kind: Kind, call: impl Fn(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let end = Instant::now() + TIMEOUT;
        let last = self.clients.len() * ROUNDS;
        let mut patience = if self.clients.len() > 1 { SLOW } else { TIMEOUT };
        for attempt in 1.. {
            let (member, client) = self.current();
            let mut calling = pin!(call(client));
            let mut answer = time::timeout_at(end.min(Instant::now() + patience), &mut calling).await;
            if answer.is_err() {
                // Others need not wait for it, too.
                self.avoid(member);
                patience *= 2;
                if kind == Kind::Write {
                    answer = time::timeout_at(end, calling).await;
                }
            }
            let (err, is_repeatable) = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(err)) => kind.failed(operation, err),
                Err(_elapsed) => kind.unanswered(operation),
            };
            if !matches!(err, Error::Unavailable { .. } | Error::Unknown { .. }) {
                return Err(err);
            }
            self.avoid(member);
            if !is_repeatable || attempt >= last || Instant::now() >= end {
                return Err(err);
            }
            if attempt % self.clients.len() == 0 {
                let round = u32::try_from(attempt / self.clients.len()).unwrap_or(1);
                time::sleep(PAUSE * round).await;
            }
        }
        unreachable!("the loop ends at its last attempt")
    }
}

/// Whether something may be done twice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

impl Kind {
    /// What a failure of the client is, and whether to try again.
    fn failed(self, operation: &'static str, err: etcd_client::Error) -> (Error, bool) {
        let may_be_done = self == Self::Write && !never_taken(&err);
        let err = store_error(operation, err);
        if may_be_done { (uncertain(err), false) } else { (err, true) }
    }

    /// The same where nothing was answered.
    fn unanswered(self, operation: &'static str) -> (Error, bool) {
        let silent = Error::Unavailable { reason: format!("etcd did not answer in time ({operation})") };
        if self == Self::Write { (uncertain(silent), false) } else { (silent, true) }
    }
}

/// The error of a write that has perhaps reached the store.
fn uncertain(err: Error) -> Error {
    match err {
        Error::Unavailable { reason } => Error::Unknown { reason },
        err => err,
    }
}

/// Whether an error says that a request was not taken: there was no connection to send it over, or it was turned away.
fn never_taken(err: &etcd_client::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(err);
    if let etcd_client::Error::GRpcStatus(status) = err {
        if is_overload(status.message()) || has_no_leader(status.message()) {
            return true;
        }
        cause = status.source();
    }
    while let Some(err) = cause {
        if let Some(err) = err.downcast_ref::<io::Error>() {
            use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
            return matches!(err.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable);
        }
        cause = err.source();
    }
    false
}

/// Whether a member turned a request away because it knows no leader. It does so before it looks at the request.
fn has_no_leader(message: &str) -> bool {
    message == "etcdserver: no leader"
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn begins_with(first: Option<usize>) -> usize {
        let endpoints = ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"].map(str::to_owned);
        let members = Members::new(&endpoints, first, &ConnectOptions::new()).await.unwrap();
        members.current().0
    }

    #[tokio::test]
    async fn processes_spread_over_the_members_by_chance() {
        let mut begun = [false; 3];
        for _ in 0..200 {
            begun[begins_with(None).await] = true;
        }
        assert_eq!(begun, [true; 3]);
        assert_eq!(begins_with(Some(2)).await, 2);
    }

    #[tokio::test]
    async fn a_member_is_avoided_once_by_all_who_found_it_silent() {
        let endpoints = ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"].map(str::to_owned);
        let members = Members::new(&endpoints, Some(0), &ConnectOptions::new()).await.unwrap();
        (0..5).for_each(|_| members.avoid(0));
        assert_eq!(members.current().0, 1);
    }
}
