//! Container logs in CRI's format: `<RFC 3339 time> <stream> <F|P> <text>`, `P` for a piece of a line.
//!
//! They are rotated here, where the bytes are written, so that no container gets ahead of whoever looks at its log:
//!
//! ```text
//! 0.log                                 grows to the limit, then begins anew
//! 0.log.20261130-001502.123456789       rotated ones by time, the oldest removed
//! ```
//! When the disk takes no more, output is dropped and counted: a container never waits for its log. Once there is room
//! again, a line in the log says how much is missing.

mod lines;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::LogLimits;
use lines::{compact, rfc3339};

pub(super) use lines::Stream;

/// The log file of one container.
pub(super) struct Log {
    path: PathBuf,
    file: File,
    limits: LogLimits,
    /// Bytes in the file.
    length: u64,
    /// The files before this one, oldest first.
    rotated: VecDeque<PathBuf>,
    /// Bytes that could not be written since the last that could.
    lost: u64,
}

impl Log {
    pub(super) fn open(path: PathBuf, limits: LogLimits) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = open(&path)?;
        let length = file.metadata()?.len();
        let rotated = rotated(&path)?;
        Ok(Self { path, file, limits, length, rotated, lost: 0 })
    }

    /// Goes on in a new file at the same path.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        self.length = self.file.metadata()?.len();
        self.rotated = rotated(&self.path)?;
        Ok(())
    }

    /// Writes all lines that are complete now. Of failures in a row only the first is an error.
    pub(super) fn write(&mut self, stream: &mut Stream, bytes: &[u8], now: SystemTime) -> io::Result<()> {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        stream.format(bytes, now, &mut out);
        self.write_lines(&out, now)
    }

    fn write_lines(&mut self, lines: &[u8], now: SystemTime) -> io::Result<()> {
        let first = self.lost == 0;
        let mut left = lines;
        while !left.is_empty() {
            let (lines, rest) = left.split_at(self.fitting(left));
            if let Err(err) = self.append(lines, now) {
                self.lost += left.len() as u64;
                return if first { Err(err) } else { Ok(()) };
            }
            left = rest;
        }
        Ok(())
    }

    /// Writes what is left of a last line without an end, as the part of a line that it is.
    pub(super) fn finish(&mut self, stream: &mut Stream, now: SystemTime) -> io::Result<()> {
        if stream.pending.is_empty() {
            return Ok(());
        }
        let mut out = Vec::new();
        stream.line(&[], 'P', now, &mut out);
        self.write_lines(&out, now)
    }

    /// How many bytes of whole lines go into one file; a line that is longer than a file may be has one of its own.
    fn fitting(&self, lines: &[u8]) -> usize {
        let in_room = |room: u64| {
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            if lines.len() <= room { lines.len() } else { end_of_line(&lines[..room], true).unwrap_or(0) }
        };
        let most = if self.limits.max_bytes == 0 { u64::MAX } else { self.limits.max_bytes };
        [in_room(most.saturating_sub(self.length)), in_room(most)]
            .into_iter()
            .find(|count| *count > 0)
            .unwrap_or_else(|| end_of_line(lines, false).unwrap_or(lines.len()))
    }

    fn append(&mut self, lines: &[u8], now: SystemTime) -> io::Result<()> {
        let limit = self.limits.max_bytes;
        if limit > 0 && self.length > 0 && self.length.saturating_add(lines.len() as u64) > limit {
            self.rotate(now);
        }
        if self.lost > 0 {
            let note = format!("{} stderr F coracle: {} bytes of output were lost here\n", rfc3339(now), self.lost);
            self.put(note.as_bytes())?;
            self.lost = 0;
        }
        self.put(lines)
    }

    /// Writes all of it or nothing, so that lines stay whole on a full disk.
    fn put(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Err(err) = self.file.write_all(lines) {
            // If that fails too, a reader sees a torn line.
            let _ = self.file.set_len(self.length);
            return Err(err);
        }
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Begins a new file, and removes the oldest. Where that is not possible the one there is begins anew: the limit
    /// holds, whatever is lost.
    fn rotate(&mut self, now: SystemTime) {
        // Room is made first: not even between two steps are there more files than there may be.
        self.keep(usize::try_from(self.limits.max_files).unwrap_or(usize::MAX).saturating_sub(2));
        if let Err(err) = self.try_rotate(now) {
            eprintln!("rotate {}: {err}", self.path.display());
            let _ = self.file.set_len(0);
        }
        self.length = self.file.metadata().map_or(0, |metadata| metadata.len());
        self.keep(usize::try_from(self.limits.max_files).unwrap_or(usize::MAX).saturating_sub(1));
    }

    /// Removes the oldest files but so many.
    fn keep(&mut self, most: usize) {
        while self.rotated.len() > most {
            let Some(oldest) = self.rotated.pop_front() else { break };
            // Somebody may have removed it before.
            let _ = fs::remove_file(oldest);
        }
    }

    /// A time for the name of the file that is rotated now, behind all that are there: a clock may stand still or go back.
    fn next_time(&self, now: SystemTime) -> String {
        let time = compact(now);
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let newest = self.rotated.back().and_then(|path| path.file_name()?.to_str()?.strip_prefix(&*name)?.get(1..));
        match newest {
            Some(newest) if newest >= time.as_str() => {
                let (time, number) = newest.split_once('+').unwrap_or((newest, "0"));
                format!("{time}+{:06}", number.parse::<u32>().unwrap_or(0) + 1)
            }
            _ => time,
        }
    }

    /// At every moment there is a file at the path.
    fn try_rotate(&mut self, now: SystemTime) -> io::Result<()> {
        let half = with_suffix(&self.path, "new");
        let _ = fs::remove_file(&half);
        let file = open(&half)?;
        let old = with_suffix(&self.path, &self.next_time(now));
        match fs::hard_link(&self.path, &old) {
            Ok(()) => self.rotated.push_back(old),
            // Somebody removed the file.
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(err),
        }
        fs::rename(&half, &self.path)?;
        self.file = file;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// The rotated files of a log, oldest first: their names begin as its own and go on with the time.
fn rotated(path: &Path) -> io::Result<VecDeque<PathBuf>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(VecDeque::new()) };
    let begin = format!("{}.", name.to_string_lossy());
    let mut found = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let name = entry.file_name();
        let time = name.to_str().and_then(|name| name.strip_prefix(&begin));
        if time.is_some_and(|time| time.starts_with(|first: char| first.is_ascii_digit())) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found.into())
}

/// Behind the last (or the first) line that ends in `text`.
fn end_of_line(text: &[u8], last: bool) -> Option<usize> {
    let end = |byte: &u8| *byte == b'\n';
    let at = if last { text.iter().rposition(end) } else { text.iter().position(end) };
    at.map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const LIMITS: LogLimits = LogLimits { max_bytes: 2000, max_files: 3 };

    fn log(directory: &Path, limits: LogLimits) -> Log {
        Log::open(directory.join("0.log"), limits).unwrap()
    }

    /// All files of the log, oldest first.
    fn files(directory: &Path) -> Vec<PathBuf> {
        let path = directory.join("0.log");
        rotated(&path).unwrap().into_iter().chain([path]).collect()
    }

    #[test]
    fn a_log_never_takes_more_than_its_files_may_however_fast_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, mut stream) = (log(directory.path(), LIMITS), Stream::new("stdout"));
        let (mut now, mut peak) = (UNIX_EPOCH + Duration::from_secs(1_798_761_599), 0);
        for number in 0..20_000 {
            now += Duration::from_nanos(1);
            // Many empty lines are what grows most: each gets a time.
            let text = if number % 3 == 0 { "\n".repeat(90) } else { format!("line {number}\n") };
            log.write(&mut stream, text.as_bytes(), now).unwrap();
            if number % 100 == 0 {
                let lengths = files(directory.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
                peak = u64::max(peak, lengths);
            }
        }
        let most = LIMITS.max_bytes * u64::from(LIMITS.max_files);
        faults::Attack::new("shim: a log written faster than anybody looks")
            .tried(20_000, u64::from(peak > most))
            .figure("most bytes on disk", format!("{peak} of {most}"))
            .record();
        let files = files(directory.path());
        assert_eq!(files.len(), 3);
        for path in &files {
            assert!(fs::read_to_string(path).unwrap().ends_with('\n'), "lines are whole in {}", path.display());
        }
        assert!(fs::read_to_string(&files[2]).unwrap().ends_with(" line 19999\n"));
    }

    #[test]
    fn no_line_is_lost_between_two_files_and_a_restart_knows_the_old_ones() {
        let directory = tempfile::tempdir().unwrap();
        let limits = LogLimits { max_bytes: 500, max_files: 50 };
        let mut now = UNIX_EPOCH;
        for half in 0..2 {
            let (mut log, mut stream) = (log(directory.path(), limits), Stream::new("stdout"));
            for number in half * 50..(half + 1) * 50 {
                now += Duration::from_secs(1);
                log.write(&mut stream, format!("{number}\n").as_bytes(), now).unwrap();
            }
        }
        let text: String = files(directory.path()).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        let numbers: Vec<usize> = text.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        let mut fewer = log(directory.path(), LogLimits { max_files: 2, ..limits });
        fewer.rotate(now + Duration::from_secs(1));
        assert_eq!(files(directory.path()).len(), 2);
    }

    #[test]
    fn files_stay_in_order_when_the_clock_stands_still_or_goes_back() {
        let directory = tempfile::tempdir().unwrap();
        let limits = LogLimits { max_bytes: 60, max_files: 100 };
        let mut log = log(directory.path(), limits);
        let times = [9, 9, 9, 5, 5, 20, 20, 7].map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        for (number, now) in times.into_iter().enumerate() {
            log.write(&mut Stream::new("stdout"), format!("{number}\n").as_bytes(), now).unwrap();
        }
        let text: String = files(directory.path()).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        let numbers: Vec<&str> = text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(numbers, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    }

    #[test]
    fn a_line_longer_than_a_file_has_one_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, mut stream) = (log(directory.path(), LIMITS), Stream::new("stdout"));
        log.write(&mut stream, b"short\n", UNIX_EPOCH).unwrap();
        log.write(&mut stream, format!("{}\nafter\n", "x".repeat(5000)).as_bytes(), UNIX_EPOCH).unwrap();
        let lines: Vec<usize> =
            files(directory.path()).iter().map(|path| fs::read_to_string(path).unwrap().lines().count()).collect();
        assert_eq!(lines, [1, 1, 1]);
    }

    #[test]
    fn output_that_cannot_be_written_is_dropped_and_told_of() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, mut stream) = (log(directory.path(), LogLimits::default()), Stream::new("stdout"));
        log.write(&mut stream, b"before\n", UNIX_EPOCH).unwrap();
        let good = std::mem::replace(&mut log.file, OpenOptions::new().write(true).open("/dev/full").unwrap());
        assert!(log.write(&mut stream, b"lost\n", UNIX_EPOCH).is_err());
        assert!(log.write(&mut stream, b"lost\n", UNIX_EPOCH).is_ok(), "nobody is told twice");
        log.file = good;
        log.write(&mut stream, b"after\n", UNIX_EPOCH).unwrap();
        let text = fs::read_to_string(&log.path).unwrap();
        let said: Vec<&str> = text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap()).collect();
        let expected = format!(
            "coracle: {} bytes of output were lost here",
            2 * "1970-01-01T00:00:00.000000000Z stdout F lost\n".len()
        );
        assert_eq!(said, ["before", &expected, "after"]);
    }
}
