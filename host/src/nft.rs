//! Running `nft`.

use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// How much of what nft says is looked at, in bytes.
const LONGEST_COMPLAINT: usize = 64 * 1024;
/// How many lines of that are told.
const LINES: usize = 4;
/// How much of each, in letters.
const LONGEST_LINE: usize = 200;

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
    let words = complaint(&output.stderr);
    // It was killed, perhaps.
    Err(NftError::Refused(if words.is_empty() { output.status.to_string() } else { words }))
}

/// What nft says of a text that it refuses: the first of its lines. It shows what it complains of, which may be a line with
/// thousands of addresses, and marks the place below that.
fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(&stderr[..stderr.len().min(LONGEST_COMPLAINT)]);
    let says_something = |line: &&str| line.contains(|letter: char| !matches!(letter, ' ' | '^' | '~'));
    let lines = text.lines().filter(says_something).take(LINES);
    lines.map(|line| line.trim().chars().take(LONGEST_LINE).collect::<String>()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nft_says_is_told_in_a_few_words() {
        let elements = "10.0.0.1, ".repeat(10_000);
        let said = format!(
            "/dev/stdin:1:2-5: Error: Could not process rule: No such file or directory\n \
             add element ip t s {{ {elements} }}\n    ^^^^~~~\n/dev/stdin:2:1-1: Error: Operation not permitted\n"
        );
        let told = complaint(said.as_bytes());
        assert!(
            told.starts_with("/dev/stdin:1:2-5: Error: Could not process rule: No such file or directory add element")
        );
        assert!(told.len() <= LINES * (LONGEST_LINE + 1) && !told.contains('^'), "{told}");
        let many = "Error: x\n".repeat(9);
        assert_eq!(complaint(many.as_bytes()), "Error: x Error: x Error: x Error: x");
        assert_eq!(complaint(b"\xff"), "\u{fffd}");
        assert_eq!(complaint(b""), "");
    }
}
