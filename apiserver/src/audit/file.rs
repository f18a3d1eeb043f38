//! The file that events are appended to. A new one is begun when it is large; the old one gets the time in its name.
//! Upstream: `plugin/pkg/audit/log`, lumberjack.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::config::Rotation;

/// What is large when nobody says it.
const MEGABYTES: u32 = 100;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A log.
pub(super) enum LogFile {
    Output,
    File(Mutex<Open>),
}

/// An open file.
pub(super) struct Open {
    path: PathBuf,
    file: File,
    size: u64,
    rotation: Rotation,
}

impl LogFile {
    /// Opens a file, or the standard output for `-`.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Output);
        }
        let file = append(path)?;
        let size = file.metadata()?.len();
        Ok(Self::File(Mutex::new(Open { path: path.to_owned(), file, size, rotation })))
    }

    /// Writes a text as a line, whole.
    pub(super) fn write(&self, text: &[u8]) -> io::Result<()> {
        let line = [text, b"\n"].concat();
        match self {
            Self::Output => io::stdout().lock().write_all(&line),
            Self::File(open) => open.lock().unwrap_or_else(PoisonError::into_inner).write(&line),
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Open {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let limit = u64::from(if self.rotation.max_megabytes == 0 { MEGABYTES } else { self.rotation.max_megabytes });
        let length = line.len() as u64;
        if self.size > 0 && self.size + length > limit * 1024 * 1024 {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.size += length;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let time = Timestamp::now().strftime("%Y-%m-%dT%H-%M-%S%.3f").to_string();
        fs::rename(&self.path, self.backup(&time))?;
        self.file = append(&self.path)?;
        self.size = 0;
        self.forget()
    }

    /// The name of an old file: `audit-2026-01-02T03-04-05.678.log`.
    fn backup(&self, time: &str) -> PathBuf {
        let (stem, extension) = self.name();
        self.path.with_file_name(format!("{stem}-{time}{extension}"))
    }

    fn name(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let extension = self.path.extension().map(|_| format!(".{}", text(self.path.extension())));
        (text(self.path.file_stem()), extension.unwrap_or_default())
    }

    /// Deletes old files that are too many or too old.
    fn forget(&self) -> io::Result<()> {
        let Rotation { max_days, max_backups, .. } = self.rotation;
        if max_days == 0 && max_backups == 0 {
            return Ok(());
        }
        let (stem, extension) = self.name();
        let directory = self.path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut old = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let time = name.strip_prefix(&format!("{stem}-")).and_then(|rest| rest.strip_suffix(&extension));
            if time.is_some_and(|time| time.len() == "2026-01-02T03-04-05.678".len()) {
                old.push((name, entry));
            }
        }
        old.sort_by(|one, other| other.0.cmp(&one.0));
        for (at, (_, entry)) in old.iter().enumerate() {
            let too_many = max_backups > 0 && at >= max_backups as usize;
            let age = SystemTime::now().duration_since(entry.metadata()?.modified()?).unwrap_or_default();
            if too_many || (max_days > 0 && age > DAY * max_days) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_is_put_aside_and_the_oldest_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let rotation = Rotation { max_megabytes: 1, max_backups: 2, max_days: 1 };
        let LogFile::File(open) = LogFile::open(&path, rotation).unwrap() else { panic!("a file") };
        let mut open = open.into_inner().unwrap();
        let names = || fs::read_dir(directory.path()).unwrap().count();
        fs::write(directory.path().join("audit-other.log"), "not a backup").unwrap();
        for time in ["2020-01-01T00-00-00.000", "2020-01-02T00-00-00.000"] {
            fs::write(open.backup(time), "old").unwrap();
        }
        let line = vec![b'x'; 700 * 1024];
        open.write(&line).unwrap();
        assert_eq!(names(), 4);
        open.write(&line).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 700 * 1024);
        // The log, what is no backup, the backup just made and the newer one of the two before.
        assert_eq!(names(), 4);
        assert!(!open.backup("2020-01-01T00-00-00.000").exists());
    }
}
