//! Images and the credentials to get them.

use serde::{Deserialize, Serialize};

/// Registry credentials for one pull.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageAuth {
    pub username: String,
    pub password: String,
    /// A bearer token, instead of name and password.
    pub registry_token: String,
}

/// How far a pull is: bytes of the layers that were not here before, as the registry sends them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullProgress {
    pub loaded: u64,
    pub total: u64,
}

/// An image on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// `sha256:...` of its configuration.
    pub id: String,
    pub tags: Vec<String>,
    pub digests: Vec<String>,
    /// Bytes on disk.
    pub size: u64,
    /// `USER` of the image configuration: `uid[:gid]`, a name, or empty.
    pub user: String,
}
