//! Work on files: where it may block, and with errors that name the path.
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Runs file system work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(err) => Err(std::io::Error::other(err)),
    }
}

/// An I/O error that names its path.
pub(crate) fn at(path: &Path, verb: &str) -> impl FnOnce(std::io::Error) -> std::io::Error {
    let what = format!("{verb} {}", path.display());
    move |err| std::io::Error::new(err.kind(), format!("{what}: {err}"))
}

/// Writes a file of mode 0600 so that a reader sees the old text or the new one, never a part.
pub(crate) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(draft, path)
}
