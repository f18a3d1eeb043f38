//! Termination messages: what an ended container left in its message file, or else the end of its log.
use std::path::{Path, PathBuf};

use runtime::ContainerStatus;
use runtime::beneath::{Directory, Links};

use super::Worker;
use crate::launch::{MESSAGE_FILE, MESSAGE_POLICY};
use crate::seen;
use crate::volumes::blocking;

const MAX_MESSAGE: usize = 4096;
const MAX_LOG: usize = 2048;
const MAX_LOG_LINES: usize = 80;

impl Worker {
    /// Reads the message of every container that ended since the last look.
    pub(super) async fn read_messages(&mut self) {
        self.messages.retain(|id, _| self.seen.containers.iter().any(|container| container.id == *id));
        for container in &self.seen.containers {
            let ended = seen::exit(container);
            let Some(exit) = ended.filter(|_| !self.messages.contains_key(&container.id)) else { continue };
            let message = read(container, exit.code != 0).await.unwrap_or_default();
            let message = if message.is_empty() { exit.message.clone() } else { message };
            self.messages.insert(container.id.clone(), message);
        }
    }
}

async fn read(container: &ContainerStatus, failed: bool) -> std::io::Result<String> {
    let file = container.annotations.get(MESSAGE_FILE).map(PathBuf::from);
    let fall_back =
        failed && container.annotations.get(MESSAGE_POLICY).is_some_and(|policy| policy == "FallbackToLogsOnError");
    let log = container.log_path.clone();
    blocking(move || {
        let text = file.map(|file| head(&file)).transpose().unwrap_or_default().unwrap_or_default();
        if text.is_empty() && fall_back { log_tail(&log) } else { Ok(text) }
    })
    .await
}

/// The file is the container's to write: what is read of it is bounded, and it must still be a plain file.
fn head(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    open(path)?.take(MAX_MESSAGE as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Opens a plain file of the kubelet's own directory, and nothing that a link there leads to.
fn open(path: &Path) -> std::io::Result<std::fs::File> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    Directory::open(folder, Links::Within)?.open_regular(Path::new(name))
}

/// The last lines of a log in the CRI's format, without its time stamps.
fn log_tail(path: &Path) -> std::io::Result<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = open(path)?;
    let length = file.metadata()?.len();
    // Time stamps and tags at most double the size of what is kept.
    file.seek(SeekFrom::Start(length.saturating_sub(64 * 1024)))?;
    let mut bytes = Vec::new();
    file.take(64 * 1024).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let mut tail = lines[lines.len().saturating_sub(MAX_LOG_LINES)..].join("\n");
    if !tail.is_empty() {
        tail.push('\n');
    }
    let mut start = tail.len().saturating_sub(MAX_LOG);
    while !tail.is_char_boundary(start) {
        start += 1;
    }
    Ok(tail.split_off(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_the_head_of_a_plain_file_and_of_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0");
        std::fs::write(&path, "x".repeat(3 * MAX_MESSAGE)).unwrap();
        assert_eq!(head(&path).unwrap().len(), MAX_MESSAGE);
        let other = directory.path().join("1");
        for target in ["/etc/hostname", "/dev/zero", "../0"] {
            std::os::unix::fs::symlink(target, &other).unwrap();
            assert!(head(&other).is_err(), "{target}");
            std::fs::remove_file(&other).unwrap();
        }
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o666));
        rustix::fs::mknodat(rustix::fs::CWD, &other, kind, mode, 0).unwrap();
        assert!(head(&other).is_err(), "a pipe nobody writes to");
    }

    #[test]
    fn the_tail_of_a_log_has_no_time_stamps() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        std::fs::write(&path, "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stderr F two words\n").unwrap();
        assert_eq!(log_tail(&path).unwrap(), "one\ntwo words\n");
    }
}
