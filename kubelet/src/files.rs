//! Work on files: where it may block, and with errors that name the path.
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
