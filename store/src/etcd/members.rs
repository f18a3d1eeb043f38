//! The members of a cluster: one is used until it fails, then the next.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use tokio::time;

use super::convert::{is_overload, store_error};
use crate::Error;

/// An operation that etcd does not answer for so long has failed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Each member is tried so often.
const ROUNDS: usize = 3;
/// How long to wait after all members failed, times the number of rounds.
const PAUSE: Duration = Duration::from_millis(200);

/// Clients of each member.
pub(super) struct Members {
    clients: Vec<Client>,
    current: AtomicUsize,
}

impl Members {
    /// Prepares clients; none connects before it is used.
    pub(super) async fn new(endpoints: &[String], options: &ConnectOptions) -> Result<Self, Error> {
        if endpoints.is_empty() {
            return Err(Error::Unavailable { reason: "no etcd endpoint is configured".into() });
        }
        let mut clients = Vec::new();
        for endpoint in endpoints {
            let client = Client::connect([endpoint], Some(options.clone())).await;
            clients.push(client.map_err(|err| store_error("connect to etcd", err))?);
        }
        Ok(Self { clients, current: AtomicUsize::new(0) })
    }

    /// The member in use.
    pub(super) fn current(&self) -> (usize, Client) {
        let member = self.current.load(Ordering::Relaxed);
        (member, self.clients[member].clone())
    }

    /// Has everyone use another member, if they still use this one.
    pub(super) fn avoid(&self, member: usize) {
        let next = (member + 1) % self.clients.len();
        // If it has changed, someone else noticed first.
        let _ = self.current.compare_exchange(member, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Does what may be done twice, such as a read, with whichever member answers.
    pub(super) async fn read<T, F>(&self, operation: &'static str, read: impl Fn(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.attempt(operation, read, |_| true).await
    }

    /// Does what must not be done twice: it is tried again only if it did not reach the member.
    pub(super) async fn write<T, F>(&self, operation: &'static str, write: impl Fn(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.attempt(operation, write, never_taken).await
    }

    async fn attempt<T, F>(
        &self,
        operation: &'static str,
        call: impl Fn(Client) -> F,
        repeatable: fn(&etcd_client::Error) -> bool,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let last = self.clients.len() * ROUNDS;
        for attempt in 1.. {
            let (member, client) = self.current();
            let (err, repeatable) = match time::timeout(TIMEOUT, call(client)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(err)) => {
                    let repeatable = repeatable(&err);
                    (store_error(operation, err), repeatable)
                }
                Err(_) => {
                    let reason = format!("etcd did not answer ({operation}) within {TIMEOUT:?}");
                    (Error::Unavailable { reason }, false)
                }
            };
            if !matches!(err, Error::Unavailable { .. }) {
                return Err(err);
            }
            self.avoid(member);
            if !repeatable || attempt >= last {
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

/// Whether an error says that a request was not taken: there was no connection to send it over, or it was turned away.
fn never_taken(err: &etcd_client::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(err);
    if let etcd_client::Error::GRpcStatus(status) = err {
        if is_overload(status.message()) {
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
