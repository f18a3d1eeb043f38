//! Names of clusters, and what is named after them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// The cluster that is meant when none is named.
const DEFAULT: &str = "default";
/// The longest name that a bridge can have with all of it: names of other nodes' links are made of the bridge's.
const IN_BRIDGE: usize = 8;

/// The name of a cluster of this machine: an RFC 1123 label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterName(String);

impl Default for ClusterName {
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

impl FromStr for ClusterName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = api::names::dns1123_label(text);
        if wrong.is_empty() { Ok(Self(text.to_owned())) } else { Err(wrong.join(", ")) }
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ClusterName {
    /// Whether it is the one that nobody has named.
    pub(crate) fn is_default(&self) -> bool {
        self.0 == DEFAULT
    }

    /// Where it keeps everything, unless it is told.
    pub fn data_dir(&self) -> PathBuf {
        if self.is_default() { "/var/lib/coracle".into() } else { format!("/var/lib/coracle-{self}").into() }
    }

    /// Its bridge, unless it is told: at most 10 letters.
    pub(crate) fn bridge(&self) -> String {
        match self.0.len() {
            _ if self.is_default() => "coracle0".to_owned(),
            ..=IN_BRIDGE => format!("c-{self}"),
            _ => format!("c-{}", self.hash()[..4].iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        }
    }

    /// What kubeconfigs call it.
    pub(crate) fn context(&self) -> String {
        if self.is_default() { "coracle".to_owned() } else { format!("coracle-{self}") }
    }

    /// The place at which the search for what is free begins.
    pub(crate) fn start(&self) -> u8 {
        self.hash()[31]
    }

    fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ClusterName {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_a_label_and_never_a_path() {
        for wrong in ["", "Blue", "a.b", "..", "a/b", "a_b", "-a", "a-", "a\n", &"a".repeat(64)] {
            assert!(wrong.parse::<ClusterName>().is_err(), "{wrong:?}");
        }
        assert_eq!(name("blue").data_dir(), PathBuf::from("/var/lib/coracle-blue"));
        assert_eq!(ClusterName::default().data_dir(), PathBuf::from("/var/lib/coracle"));
    }

    #[test]
    fn bridges_have_room_for_what_is_named_after_them() {
        let long = name(&"a".repeat(63));
        for one in [name("b"), name("eightlet"), name("nineletts"), long] {
            let bridge = one.bridge();
            assert!(bridge.starts_with("c-") && bridge.len() <= 10, "{bridge}");
        }
        assert_eq!(name("blue").bridge(), "c-blue");
        assert_ne!(name("nineletts").bridge(), name("nineletty").bridge());
    }
}
