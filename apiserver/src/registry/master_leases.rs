//! The leases of API servers that share a store: each keeps a key there that ends with it (upstream's
//! `reconcilers.Leases`, whose keys these are). They are no resource.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use api::{ApiError, Object};
use serde_json::json;
use store::Expected;

use super::Registry;
use crate::store_error::unavailable;
use crate::watch_cache::{read_all, stored_bytes};

const PREFIX: &str = "/registry/masterleases/";
/// A server that is not heard of for so long is gone.
const LIFE: Duration = Duration::from_secs(15);
/// Attempts to write a key that is changed meanwhile: only a server of the same address does that.
const ATTEMPTS: usize = 5;

impl Registry {
    /// Writes the key of a server, which then lives for another while.
    pub(crate) async fn renew_lease(&self, own: IpAddr) -> Result<(), ApiError> {
        let key = key(own);
        for _ in 0..ATTEMPTS {
            let entry = self.store.get(&key).await.map_err(|err| unavailable(&err))?;
            let expected = entry.map_or(Expected::Absent, |entry| Expected::Revision(entry.mod_revision));
            match self.store.put(&key, stored_bytes(&lease(own)), expected, Some(LIFE)).await {
                Err(store::Error::Conflict { .. }) => {}
                outcome => return outcome.map(|_| ()).map_err(|err| unavailable(&err)),
            }
        }
        Err(ApiError::internal(format!("{key} is changed all the time: does another server have this address?")))
    }

    /// Removes the key of a server that ends.
    pub(crate) async fn end_lease(&self, own: IpAddr) -> Result<(), ApiError> {
        let key = key(own);
        let Some(entry) = self.store.get(&key).await.map_err(|err| unavailable(&err))? else { return Ok(()) };
        match self.store.delete(&key, entry.mod_revision).await {
            Ok(_) | Err(store::Error::Conflict { .. }) => Ok(()),
            Err(err) => Err(unavailable(&err)),
        }
    }

    /// The addresses of the servers that there are. Keys say all that values do.
    pub(crate) async fn leases(&self) -> Result<BTreeSet<IpAddr>, ApiError> {
        let (_, entries) = read_all(&self.store, PREFIX, None).await.map_err(|err| unavailable(&err))?;
        Ok(entries.iter().filter_map(|entry| entry.key[PREFIX.len()..].parse().ok()).collect())
    }
}

fn key(address: IpAddr) -> String {
    format!("{PREFIX}{address}")
}

/// What lies at a key, as upstream has it.
fn lease(own: IpAddr) -> Object {
    let tree = json!({
        "kind": "Endpoints", "apiVersion": "v1", "metadata": {},
        "subsets": [{"addresses": [{"ip": own.to_string()}]}],
    });
    Object::from_value(tree).expect("the tree is an object")
}
