//! Reads entries with what a list leaves out: when they expire.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etcd_client::Client;

use super::{EtcdStore, PAGE, convert};
use crate::embedded::change::Change;
use crate::{Error, Revision};

impl EtcdStore {
    /// The entries below a prefix at a revision, in the order of their keys: a page of those after `after`, empty after the
    /// last one. An entry on a lease expires when the lease does, as of now.
    pub(crate) async fn export(
        &self,
        prefix: &str,
        after: Option<&str>,
        revision: Revision,
    ) -> Result<Vec<Change>, Error> {
        let begin = after.map_or_else(|| prefix.to_owned(), |after| format!("{after}\0"));
        let response = self.read(&begin, convert::prefix_end(prefix), PAGE, Some(revision)).await?;
        let mut deadlines = HashMap::new();
        let mut changes = Vec::with_capacity(response.kvs().len());
        for key_value in response.kvs() {
            let lease = key_value.lease();
            let expires = match deadlines.get(&lease) {
                _ if lease == 0 => None,
                Some(&deadline) => deadline,
                None => *deadlines.entry(lease).or_insert(self.deadline(lease).await?),
            };
            let entry = convert::entry(key_value);
            changes.push(Change {
                revision: entry.mod_revision,
                create_revision: entry.create_revision,
                expires,
                key: entry.key,
                value: Some(entry.value),
            });
        }
        Ok(changes)
    }

    /// The second at which a lease ends; soon if it has ended already.
    async fn deadline(&self, lease: i64) -> Result<Option<u64>, Error> {
        let call = |client: Client| async move { client.lease_client().time_to_live(lease, None).await };
        let answer = self.members.read("read a lease", call).await?;
        let left = u64::try_from(answer.ttl()).unwrap_or(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        // etcd rounds down.
        Ok(Some(now.as_secs() + left + 1))
    }
}
