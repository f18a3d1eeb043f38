//! What a migration asks of etcd beside reading and writing entries: how it stands, room, and a revision that is high enough.

use etcd_client::{Client, DeleteOptions};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{EtcdStore, convert, newest_revision};
use crate::standing::{LONGEST_TEXT, Standing};
use crate::{Error, Range, Revision, Store as _};

/// Not below what API servers read.
const STANDING: &str = "/coracle/migration";
const EMPTY: &str = "/coracle/empty-writes";
/// So many empty writes are under way at once.
const AT_ONCE: usize = 256;
/// After so many, etcd forgets them, so that they never fill it.
const STEP: u64 = 100_000;
/// So many keys are removed at once.
const REMOVED: usize = 500;

impl EtcdStore {
    /// What is said of what is in it.
    pub(crate) async fn standing(&self) -> Result<Option<Standing>, Error> {
        let Some(entry) = self.get(STANDING).await? else { return Ok(None) };
        let text = std::str::from_utf8(&entry.value).ok().filter(|text| text.len() <= LONGEST_TEXT);
        let wrong = || Error::Unavailable { reason: format!("{STANDING} in etcd is of another version, or damaged") };
        text.and_then(Standing::read).map(Some).ok_or_else(wrong)
    }

    pub(super) async fn refuse_migrated(&self) -> Result<(), Error> {
        let reason = match self.standing().await? {
            None => return Ok(()),
            Some(Standing::Unfinished) => "etcd has what a migration that was broken off has left: run the same \
                `coracle migrate` again, which begins anew"
                .to_owned(),
            Some(Standing::Moved(to)) => format!(
                "what etcd has was moved to {to}: use it there; to go back to what it was before, remove the key {STANDING}"
            ),
        };
        Err(Error::Unavailable { reason })
    }

    /// Says something of it, or nothing any more.
    pub(crate) async fn set_standing(&self, standing: Option<&Standing>) -> Result<(), Error> {
        let Some(text) = standing.map(Standing::text) else {
            return self.remove(STANDING.as_bytes(), &[]).await;
        };
        let call = |client: Client| {
            let text = text.clone();
            async move { client.kv_client().put(STANDING, text, None).await }
        };
        // It may be done twice.
        self.members.read("write", call).await.map(drop)
    }

    /// Removes all keys with a prefix.
    pub(crate) async fn remove_all(&self, prefix: &str) -> Result<(), Error> {
        loop {
            let range = Range { prefix: prefix.into(), limit: Some(REMOVED), ..Range::default() };
            let page = self.list(range).await?;
            let (Some(first), Some(last)) = (page.entries.first(), page.entries.last()) else { return Ok(()) };
            let end = format!("{}\0", last.key);
            self.remove(first.key.as_bytes(), end.as_bytes()).await?;
        }
    }

    /// Removes a key, or those from it up to an end.
    async fn remove(&self, key: &[u8], end: &[u8]) -> Result<(), Error> {
        let call = |client: Client| {
            let options = DeleteOptions::new().with_range(end.to_vec());
            async move { client.kv_client().delete(key, Some(options)).await }
        };
        // It may be done twice.
        self.members.read("remove", call).await.map(drop)
    }

    /// Brings the revision to at least `to`, by empty writes, which etcd forgets; `tell` hears where it is. etcd has no
    /// other way while it runs.
    pub(crate) async fn advance(&self, to: Revision, tell: impl Fn(Revision)) -> Result<(), Error> {
        loop {
            let newest = newest_revision(&self.members).await?;
            tell(newest);
            let missing = to.saturating_sub(newest);
            if missing == 0 {
                return self.remove(EMPTY.as_bytes(), &[]).await;
            }
            let writes = stream::iter(0..missing.min(STEP)).map(|_| self.write_nothing());
            writes.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
            self.forget_past().await?;
        }
    }

    /// Has reads and watches of what was before now end: it is not the past of what is there.
    pub(crate) async fn forget_past(&self) -> Result<(), Error> {
        match self.compact(newest_revision(&self.members).await?).await {
            Ok(()) | Err(Error::Compacted { .. }) => Ok(()),
            Err(err) => Err(err),
        }
    }

    async fn write_nothing(&self) -> Result<(), Error> {
        let call = |client: Client| async move { client.kv_client().put(EMPTY, "", None).await };
        // Whoever counts looks at the revision afterwards.
        self.members.read("raise the revision", call).await.map(|response| {
            self.members.saw(convert::revision_of(response.header()));
        })
    }
}
