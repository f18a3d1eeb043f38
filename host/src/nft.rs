//! Running `nft`.

use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// An address family: each has tables of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Those that this host has. Without IPv6 in the kernel nft refuses its tables.
    pub fn of_this_host() -> Vec<Self> {
        let v6 = Path::new("/proc/net/if_inet6").exists().then_some(Self::V6);
        std::iter::once(Self::V4).chain(v6).collect()
    }

    /// nft's word for the family and the header of a packet, and for addresses' type.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::V4 => ("ip", "ipv4_addr"),
            Self::V6 => ("ip6", "ipv6_addr"),
        }
    }

    /// Whether an address is of this family.
    pub fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

/// nftables cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program is not there.
    #[error("run nft (install the package nftables)")]
    Run(#[source] std::io::Error),
    /// nft's own words.
    #[error("nft refused the rules: {0}")]
    Refused(String),
}

/// Applies a text in one transaction: all of it or nothing.
pub async fn apply(text: &str) -> Result<(), NftError> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(NftError::Run)?;
    let mut stdin = nft.stdin.take().expect("stdin is piped");
    // nft reads everything before it writes, so this cannot block for ever; an early end shows in its exit status.
    let _early_end = stdin.write_all(text.as_bytes()).await;
    drop(stdin);
    let output = nft.wait_with_output().await.map_err(NftError::Run)?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(NftError::Refused(words.lines().take(4).collect::<Vec<_>>().join(" ")))
}
