//! Termination messages: what an ended container left in its message file, or else the end of its log (upstream:
//! getTerminationMessage of pkg/kubelet/kuberuntime).
use std::path::{Path, PathBuf};

use runtime::ContainerStatus;
use runtime::beneath::{Directory, Links};

use super::Worker;
use crate::containers::labels::{MESSAGE_FILE, MESSAGE_POLICY};
use crate::files::blocking;
use crate::pods::observed;

const MAX_MESSAGE: usize = 4096;
const MAX_LOG: usize = 2048;
const MAX_LOG_LINES: usize = 80;
/// Time stamps and tags at most double the size of what is kept; lines are cut at 16 KiB.
const MAX_READ: u64 = 64 * 1024;

impl Worker {
    /// Reads the message of every container that ended since the last look.
    pub(super) async fn read_messages(&mut self) {
        self.messages.retain(|id, _| self.seen.containers.iter().any(|container| container.id == *id));
        for container in &self.seen.containers {
            let ended = observed::exit(container);
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

/// The last lines of a log in the CRI's format, without its time stamps. A line that has no end in the log has none here.
fn log_tail(path: &Path) -> std::io::Result<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = open(path)?;
    let length = file.metadata()?.len();
    let begin = length.saturating_sub(MAX_READ);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(MAX_READ).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // Where reading began in the middle of a file, the first line is the end of one.
    let whole = if begin == 0 { &*text } else { text.split_once('\n').map_or("", |(_, rest)| rest) };
    let lines: Vec<&str> = whole.lines().collect();
    let mut tail: String =
        lines[lines.len().saturating_sub(MAX_LOG_LINES)..].iter().filter_map(|line| said(line)).collect();
    let mut start = tail.len().saturating_sub(MAX_LOG);
    while !tail.is_char_boundary(start) {
        start += 1;
    }
    Ok(tail.split_off(start))
}

/// What a line of a log says: time, stream and tag (`P` for a part of a line) come before it.
fn said(line: &str) -> Option<String> {
    let mut parts = line.splitn(4, ' ').skip(2);
    let (tag, text) = (parts.next()?, parts.next()?);
    Some(if tag == "P" { text.to_owned() } else { format!("{text}\n") })
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

    #[test]
    fn a_line_in_parts_is_one_line_and_one_without_an_end_gets_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let long = "x".repeat(16 * 1024);
        std::fs::write(&path, format!("t stdout P {long}\nt stdout F yz\nt stderr P DONE\n")).unwrap();
        let tail = log_tail(&path).unwrap();
        assert!(tail.ends_with("xxyz\nDONE") && tail.len() == MAX_LOG, "{tail}");
    }

    #[test]
    fn a_line_whose_beginning_is_not_read_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        std::fs::write(&path, format!("t stdout F {}\nt stdout F end\n", "a b c d ".repeat(9 * 1024))).unwrap();
        assert_eq!(log_tail(&path).unwrap(), "end\n");
    }
}
