//! Running `nft`.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

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
