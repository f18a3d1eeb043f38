//! Storage drivers of this node, which speak the Container Storage Interface (upstream: pkg/volume/csi).
//!
//! A driver registers by its socket (see [`crate::plugins`]); what it says of the node goes into the node's CSINode, its
//! labels and an annotation. Volumes of drivers are mounted by `volumes::csi`, which writes down here what is mounted.
pub(crate) mod messages;
pub(crate) mod mounts;
pub(crate) mod node;
mod presence;
pub(crate) mod records;
mod release;
mod version;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mounts::Mounts;
use node::NodeService;
use presence::Presence;
use version::Version;

pub(crate) use presence::PresenceError;
pub(crate) use release::ReleaseError;

/// The longest name that a driver can have, by the CSI specification.
const LONGEST_NAME: usize = 63;

/// Why a driver cannot register.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    /// No driver can have this name.
    #[error("driver name {0:?} is not valid: it must be at most 63 letters, digits, '-', '.' and '_'")]
    Name(String),
    /// Its service cannot be there.
    #[error("endpoint {0:?} is no absolute path of a socket")]
    Endpoint(PathBuf),
    /// It does not speak this interface.
    #[error("could not find a supported CSI version among {0:?}: this node speaks version 1")]
    Versions(Vec<String>),
    /// It speaks less of the interface than one of its name that is here.
    #[error("driver {0:?} is registered already with a higher supported version")]
    Older(String),
    /// It does not say what it is to know of the node.
    #[error("NodeGetInfo")]
    Info(#[source] crate::rpc::CallError),
    /// That cannot be told.
    #[error("error updating CSINode object and node with CSI driver node info")]
    Presence(#[from] PresenceError),
}

/// A driver as one registration left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    /// Its name.
    pub(crate) driver: String,
    /// Which registration it was.
    turn: u64,
}

struct Driver {
    endpoint: PathBuf,
    version: Version,
    turn: u64,
}

#[derive(Default)]
struct Drivers {
    by_name: BTreeMap<String, Driver>,
    turns: u64,
}

/// The storage drivers.
pub(crate) struct Csi {
    drivers: Mutex<Drivers>,
    presence: Presence,
    /// What drivers have mounted.
    pub(crate) mounts: Mounts,
}

impl Csi {
    /// No driver is known yet; what was mounted below `root` by an earlier kubelet is.
    pub(crate) fn new(client: kube::Client, node_name: &str, root: &Path) -> Self {
        Self { drivers: Mutex::default(), presence: Presence::new(client, node_name), mounts: Mounts::read(root) }
    }

    /// Makes the node's CSINode if there is none: tools expect one of every node.
    pub(crate) async fn introduce(&self) -> Result<(), PresenceError> {
        self.presence.introduce().await
    }

    /// Registers a driver: asks it about the node, and tells the API.
    pub(crate) async fn register(
        &self,
        name: &str,
        endpoint: PathBuf,
        versions: &[String],
    ) -> Result<Registered, RegisterError> {
        if !is_name(name) {
            return Err(RegisterError::Name(name.chars().take(2 * LONGEST_NAME).collect()));
        }
        if !endpoint.is_absolute() {
            return Err(RegisterError::Endpoint(endpoint));
        }
        let version = version::highest(versions).ok_or_else(|| RegisterError::Versions(shown(versions)))?;
        let service = NodeService::at(&endpoint);
        let registered = self.insert(name, endpoint, version)?;
        let announced = async {
            let info = service.info().await.map_err(RegisterError::Info)?;
            self.presence.announce(name, &info).await.map_err(RegisterError::Presence)
        };
        announced.await.inspect_err(|_| self.remove(&registered))?;
        self.mounts.look_again();
        Ok(registered)
    }

    fn insert(&self, name: &str, endpoint: PathBuf, version: Version) -> Result<Registered, RegisterError> {
        let mut drivers = self.drivers();
        if drivers.by_name.get(name).is_some_and(|known| known.version > version) {
            return Err(RegisterError::Older(name.to_owned()));
        }
        drivers.turns += 1;
        let turn = drivers.turns;
        drivers.by_name.insert(name.to_owned(), Driver { endpoint, version, turn });
        Ok(Registered { driver: name.to_owned(), turn })
    }

    /// Forgets a driver, unless it has registered again.
    pub(crate) fn remove(&self, registered: &Registered) {
        let mut drivers = self.drivers();
        if drivers.by_name.get(&registered.driver).is_some_and(|known| known.turn == registered.turn) {
            drivers.by_name.remove(&registered.driver);
        }
    }

    /// Tells the API that a driver is gone, unless it is back.
    pub(crate) async fn withdraw(&self, registered: &Registered) -> Result<(), PresenceError> {
        let is_back = || self.drivers().by_name.contains_key(&registered.driver);
        self.presence.withdraw(&registered.driver, is_back).await
    }

    /// The service of a driver, if it is registered.
    pub(crate) fn driver(&self, name: &str) -> Option<NodeService> {
        self.drivers().by_name.get(name).map(|driver| NodeService::at(&driver.endpoint))
    }

    fn drivers(&self) -> MutexGuard<'_, Drivers> {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a driver can have this name, which is also one of a directory.
fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= LONGEST_NAME && outer(bytes.first()) && outer(bytes.last()) && bytes.iter().copied().all(inner)
}

/// A few of the words of somebody who may have sent very many.
fn shown(words: &[String]) -> Vec<String> {
    words.iter().take(8).map(|word| word.chars().take(32).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_drivers_are_names_of_directories() {
        for name in ["a", "ebs.csi.aws.com", "A_b-1"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "-a", "a.", "a b", &"a".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
