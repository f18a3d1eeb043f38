//! The etcd backend: the v3 API of an etcd cluster.
//!
//! Keys are absolute, as upstream's are: the store neither adds nor strips a prefix (`/registry/...` is the caller's).
//!
//! All watches share one etcd watch over every key, see `follow`: since every revision has an event there, it is known
//! how far a watch has come without asking etcd for progress (which etcd before 3.4.25 answers too early, issue 15220).

mod convert;
mod export;
mod follow;
mod lease;
mod members;
mod preparation;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, GetResponse, Identity, PutOptions, TlsOptions,
    Txn, TxnOp, TxnOpResponse,
};
use tokio::sync::Semaphore;
use tokio::task;
use tokio_util::task::AbortOnDropHandle;

use crate::feed::{Feed, History, Limits, closed};
use crate::{Entry, Error, Expected, MAX_ENTRY_BYTES, Page, Range, Revision, Store, WatchStream};
use convert::{entry, number, revision_of};
use lease::Leases;
use members::Members;

/// At most so many writes are under way at once.
const WRITES: usize = 1024;
/// So many entries are read at once, so that a large list does not have etcd build one huge message.
const PAGE: usize = 500;
/// The largest message gRPC can carry; etcd itself bounds what it sends by what was asked for.
const MESSAGE_BYTES: usize = i32::MAX as usize;

/// Which etcd cluster to use, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// URLs of the members, `http://` or `https://`.
    pub endpoints: Vec<String>,
    /// The place of the endpoint to begin with; left to chance if `None`, so that processes spread over the members.
    pub first: Option<usize>,
    /// Required for `https://`.
    pub tls: Option<Tls>,
    /// History older than about this is compacted; `None` leaves that to someone else.
    pub compact_every: Option<Duration>,
    /// How much of the past is kept in this process.
    pub limits: Limits,
}

impl Options {
    /// A cluster with these members, without TLS, compacted every five minutes as upstream does.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        Self {
            endpoints,
            first: None,
            tls: None,
            compact_every: Some(Duration::from_secs(300)),
            limits: Limits::default(),
        }
    }
}

/// Whom to trust and who to be, as PEM.
#[derive(Clone)]
pub struct Tls {
    /// The certificate authority that signed etcd's certificate.
    pub ca: Vec<u8>,
    /// Our certificate and its key, where etcd asks for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

/// A store in an etcd cluster.
pub struct EtcdStore {
    members: Arc<Members>,
    feed: Arc<Feed>,
    leases: Leases,
    /// Writes under way; more wait here, since etcd turns requests away when it has thousands.
    places: Semaphore,
    /// Watches want to hear of progress once this revision was seen; 0 if none does.
    progress_wanted: Arc<AtomicU64>,
    _follower: AbortOnDropHandle<()>,
}

impl EtcdStore {
    /// Connects to serve what is in it; refuses what a migration has not finished, or has moved elsewhere.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let store = Self::connect(options).await?;
        store.refuse_migrated().await?;
        Ok(store)
    }

    /// Connects to a cluster and makes sure that it answers.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let members = Arc::new(Members::new(&options.endpoints, options.first, &connect_options(&options)).await?);
        let named = |err| match err {
            Error::Unavailable { reason } => {
                Error::Unavailable { reason: format!("etcd at {}: {reason}", options.endpoints.join(", ")) }
            }
            other => other,
        };
        let revision = newest_revision(&members).await.map_err(named)?;
        let feed = Arc::new(Feed::new(History::starting_at(revision), options.limits));
        let progress_wanted = Arc::new(AtomicU64::new(0));
        let follower = follow::Follower {
            members: members.clone(),
            feed: feed.clone(),
            progress_wanted: progress_wanted.clone(),
            compact_every: options.compact_every,
        };
        let follower = AbortOnDropHandle::new(task::spawn(follower.run()));
        Ok(Self {
            members,
            feed,
            leases: Leases::default(),
            places: Semaphore::new(WRITES),
            progress_wanted,
            _follower: follower,
        })
    }

    /// Compares and writes in one transaction.
    async fn commit(
        &self,
        operation: &'static str,
        key: &str,
        expected: Expected,
        write: TxnOp,
    ) -> Result<Revision, Error> {
        let expected = match expected {
            Expected::Absent => 0,
            Expected::Revision(0) => {
                // To etcd that is the revision of a key that does not exist; no key has it.
                let current = self.get(key).await?;
                return Err(Error::Conflict { key: key.into(), current: current.map(Box::new) });
            }
            Expected::Revision(revision) => number(revision),
        };
        let txn = Txn::new()
            .when([Compare::mod_revision(key, CompareOp::Equal, expected)])
            .and_then([write])
            .or_else([TxnOp::get(key, None)]);
        let call = |client: Client| {
            let txn = txn.clone();
            async move { client.kv_client().max_decoding_message_size(MESSAGE_BYTES).txn(txn).await }
        };
        let _place = self.places.acquire().await.map_err(|_| closed())?;
        let response = self.members.write(operation, call).await?;
        self.members.saw(revision_of(response.header()));
        if response.succeeded() {
            return Ok(revision_of(response.header()));
        }
        let current = response.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(get) => get.kvs().first().map(entry),
            _ => None,
        });
        Err(Error::Conflict { key: key.into(), current: current.map(Box::new) })
    }

    /// Reads keys from `begin` up to the end of a prefix.
    async fn read(
        &self,
        begin: &str,
        end: Vec<u8>,
        limit: usize,
        revision: Option<Revision>,
    ) -> Result<GetResponse, Error> {
        let mut options = GetOptions::new().with_range(end).with_limit(i64::try_from(limit).unwrap_or(i64::MAX));
        if let Some(revision) = revision {
            options = options.with_revision(number(revision));
        }
        let read = get(&self.members, begin, options).await;
        match (read, revision) {
            (Err(Error::Compacted { .. }), Some(asked)) => {
                Err(Error::Compacted { asked, oldest: follow::oldest(&self.members).await? })
            }
            (Err(Error::Future { .. }), Some(asked)) => {
                Err(Error::Future { asked, newest: newest_revision(&self.members).await? })
            }
            (read, _) => read,
        }
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let response = get(&self.members, key, GetOptions::new()).await?;
        Ok(response.kvs().first().map(entry))
    }

    async fn list(&self, range: Range) -> Result<Page, Error> {
        // Revision 1 is the empty beginning; 0 would mean the newest one to etcd.
        let mut revision = range.revision.map(|revision| revision.max(1));
        let end = convert::prefix_end(&range.prefix);
        let mut begin = match range.after {
            Some(after) if after >= range.prefix => after + "\0",
            _ => range.prefix,
        };
        if begin.is_empty() {
            begin = "\0".into();
        }
        let mut entries = Vec::new();
        loop {
            let wanted = range.limit.map_or(PAGE, |limit| (limit - entries.len()).min(PAGE));
            // To etcd a limit of 0 is none.
            let response = self.read(&begin, end.clone(), wanted.max(1), revision).await?;
            let read = *revision.get_or_insert(revision_of(response.header()));
            let found = response.kvs().iter().take(wanted);
            let count = found.len();
            entries.extend(found.map(entry));
            let remaining = u64::try_from(response.count()).unwrap_or(0).saturating_sub(count as u64);
            let full = range.limit.is_some_and(|limit| entries.len() >= limit);
            match entries.last() {
                Some(last) if remaining > 0 && !full => begin = format!("{}\0", last.key),
                _ => return Ok(Page { revision: read, entries, remaining }),
            }
        }
    }

    async fn put(&self, key: &str, value: Bytes, expected: Expected, ttl: Option<Duration>) -> Result<Revision, Error> {
        let size = key.len() + value.len();
        if size > MAX_ENTRY_BYTES {
            let key = key.chars().take(256).collect();
            return Err(Error::TooLarge { key, size, limit: MAX_ENTRY_BYTES });
        }
        let lease = match ttl {
            Some(ttl) => Some(self.leases.lease_for(&self.members, ttl).await?),
            None => None,
        };
        let options = lease.map(|lease| PutOptions::new().with_lease(lease));
        let put = TxnOp::put(key, value, options);
        self.commit("put", key, expected, put).await.map_err(|err| match err {
            Error::TooLarge { limit, .. } => Error::TooLarge { key: key.chars().take(256).collect(), size, limit },
            err => err,
        })
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, Error> {
        self.commit("delete", key, Expected::Revision(expected), TxnOp::delete(key, None)).await
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<WatchStream, Error> {
        let after = after.map(|revision| revision.max(1));
        let mut promised = 0;
        if after.is_none_or(|after| after > self.feed.history().newest()) {
            promised = newest_revision(&self.members).await?;
            if let Some(asked) = after.filter(|&after| after > promised) {
                return Err(Error::Future { asked, newest: promised });
            }
        }
        match (self.feed.watch(prefix, after, promised), after) {
            (Err(Error::Compacted { .. }), Some(after)) => {
                // This fails if etcd does not have that history either.
                self.read("\0", vec![1], 1, Some(after)).await?;
                follow::replay(&self.members, self.feed.clone(), prefix, after).await
            }
            (watch, _) => watch,
        }
    }

    async fn revision(&self) -> Result<Revision, Error> {
        newest_revision(&self.members).await
    }

    async fn request_progress(&self) -> Result<(), Error> {
        let newest = newest_revision(&self.members).await?;
        if !self.feed.tell_progress(newest) {
            self.progress_wanted.fetch_max(newest, Ordering::SeqCst);
            // It may have been published just before the wish was noted.
            self.feed.tell_progress(newest);
        }
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let asked = revision.max(1);
        match follow::compact(&self.members, asked).await {
            Err(Error::Compacted { .. }) => {
                Err(Error::Compacted { asked, oldest: follow::oldest(&self.members).await? })
            }
            Err(Error::Future { .. }) => Err(Error::Future { asked, newest: newest_revision(&self.members).await? }),
            Err(err) => Err(err),
            Ok(()) => {
                self.feed.forget(asked);
                Ok(())
            }
        }
    }

    async fn check(&self) -> Result<(), Error> {
        // A linearizable read needs a quorum, as a write does.
        newest_revision(&self.members).await.map(drop)
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.feed.close();
    }
}

fn connect_options(options: &Options) -> ConnectOptions {
    let connect = ConnectOptions::new()
        .with_connect_timeout(Duration::from_secs(5))
        .with_require_leader(true)
        // etcd cuts who sends pings while nothing is under way.
        .with_keep_alive(Duration::from_secs(30), Duration::from_secs(10))
        .with_keep_alive_while_idle(false);
    match &options.tls {
        None => connect,
        Some(tls) => {
            let mut config = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca));
            if let Some((certificate, key)) = &tls.identity {
                config = config.identity(Identity::from_pem(certificate, key));
            }
            connect.with_tls(config)
        }
    }
}

/// The revision of a linearizable read.
async fn newest_revision(members: &Members) -> Result<Revision, Error> {
    let response = get(members, "\0", GetOptions::new().with_count_only()).await?;
    Ok(revision_of(response.header()))
}

async fn get(members: &Members, key: &str, options: GetOptions) -> Result<GetResponse, Error> {
    let call = |client: Client| {
        let options = Some(options.clone());
        async move { client.kv_client().max_decoding_message_size(MESSAGE_BYTES).get(key, options).await }
    };
    let response = members.read("read", call).await?;
    members.saw(revision_of(response.header()));
    Ok(response)
}
