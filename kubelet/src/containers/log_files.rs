//! The files of a container's log: the one that is written, and those before it, with the time in their names
//! (upstream: pkg/kubelet/logs).
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tokio::fs::File;

/// A chain of files may change while it is looked at; so often the look is repeated.
const TRIES: usize = 16;

/// The file that goes on where `open` ends, if there is one by now: whoever follows a log reads one after the other,
/// however many there were since the last look. What is gone already is left out.
pub(crate) async fn after(path: &Path, open: &File) -> io::Result<Option<File>> {
    let own = identity(&open.metadata().await?);
    for _ in 0..TRIES {
        let Some(next) = next(&chain(path).await?, own).await else { return Ok(None) };
        match File::open(&next).await {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            opened => {
                let opened = opened?;
                // By now the path may be another file's.
                if identity(&opened.metadata().await?) != own {
                    return Ok(Some(opened));
                }
            }
        }
    }
    Ok(None)
}

/// Removes a log with all its files.
pub(crate) async fn remove(path: &Path) -> io::Result<()> {
    for file in chain(path).await? {
        match tokio::fs::remove_file(&file).await {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
    }
    Ok(())
}

/// All files of the log, oldest first.
async fn chain(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let begin = format!("{}.", name.to_string_lossy());
    let mut found = Vec::new();
    let mut entries = match tokio::fs::read_dir(parent).await {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name();
        let time = name.to_str().and_then(|name| name.strip_prefix(&begin));
        if time.is_some_and(|time| time.starts_with(|first: char| first.is_ascii_digit())) {
            found.push(entry.path());
        }
    }
    found.sort();
    found.push(path.to_owned());
    Ok(found)
}

/// The one behind `own`; the oldest if that is gone.
async fn next(chain: &[PathBuf], own: (u64, u64)) -> Option<PathBuf> {
    let mut oldest = None;
    let mut files = chain.iter();
    while let Some(file) = files.next() {
        let Ok(metadata) = tokio::fs::metadata(file).await else { continue };
        if identity(&metadata) == own {
            return files.next().cloned();
        }
        oldest.get_or_insert_with(|| file.clone());
    }
    oldest
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_follower_reads_every_file_in_order_and_skips_only_what_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let write = |name: &str| std::fs::write(directory.path().join(name), name).unwrap();
        write("0.log");
        write("10.log");
        let first = File::open(&path).await.unwrap();
        assert!(after(&path, &first).await.unwrap().is_none());
        std::fs::rename(&path, directory.path().join("0.log.20260101-000000.000000001")).unwrap();
        write("0.log.20260101-000000.000000002");
        write("0.log.new");
        write("0.log");
        let second = after(&path, &first).await.unwrap().unwrap();
        let mut names = Vec::new();
        let mut open = Some(second);
        while let Some(file) = open {
            let text = std::io::read_to_string(file.try_clone().await.unwrap().into_std().await).unwrap();
            names.push(text);
            open = after(&path, &file).await.unwrap();
        }
        assert_eq!(names, ["0.log.20260101-000000.000000002", "0.log"]);
        std::fs::remove_file(directory.path().join("0.log.20260101-000000.000000001")).unwrap();
        let oldest = after(&path, &first).await.unwrap().unwrap();
        let text = std::io::read_to_string(oldest.into_std().await).unwrap();
        assert_eq!(text, "0.log.20260101-000000.000000002");
        remove(&path).await.unwrap();
        let left: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
