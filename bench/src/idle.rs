//! What processes use while nothing happens: memory, CPU time and bytes written, from `/proc`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Error;
use crate::budget;
use crate::table::Table;

/// Ticks a second in `/proc/PID/stat`: `USER_HZ`, 100 on every architecture that we build for.
const TICKS: f64 = 100.0;
/// In bytes.
pub const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// The state of a process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub name: String,
    /// Resident memory, in bytes.
    pub resident: u64,
    /// User and system time since the process began, in ticks.
    pub ticks: u64,
    /// Bytes that it made the kernel write to a disk.
    pub written: u64,
}

impl Sample {
    /// Looks at a process.
    pub fn take(pid: u32) -> Result<Self, Error> {
        let read = |file: &str| {
            let path = PathBuf::from(format!("/proc/{pid}/{file}"));
            fs::read_to_string(&path)
                .map_err(|source| Error::Process { path: path.clone(), source })
                .map(|text| (path, text))
        };
        let ((status_path, status), (stat_path, stat), (io_path, io)) = (read("status")?, read("stat")?, read("io")?);
        Ok(Self {
            name: text(&status_path, &status, "Name:")?,
            resident: 1024 * number(&status_path, &status, "VmRSS:")?,
            ticks: ticks(&stat).ok_or(Error::ProcessField { path: stat_path, field: "utime" })?,
            written: number(&io_path, &io, "write_bytes:")?,
        })
    }
}

fn text(path: &Path, status: &str, field: &'static str) -> Result<String, Error> {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    Ok(line.ok_or_else(|| Error::ProcessField { path: path.to_owned(), field })?.trim().to_owned())
}

fn number(path: &Path, status: &str, field: &'static str) -> Result<u64, Error> {
    let line = text(path, status, field)?;
    let digits = line.split_whitespace().next().and_then(|digits| digits.parse().ok());
    digits.ok_or_else(|| Error::ProcessField { path: path.to_owned(), field })
}

/// User and system time. The second field is the name in parentheses, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// Watches the processes for a while and adds three rows for each, and for all if there are several.
pub async fn watch(table: &std::sync::Mutex<Table>, pids: &[u32], window: Duration, when: &str) -> Result<(), Error> {
    let before = pids.iter().map(|pid| Sample::take(*pid)).collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    tokio::time::sleep(window).await;
    let elapsed = start.elapsed().as_secs_f64();
    let after = pids.iter().map(|pid| Sample::take(*pid)).collect::<Result<Vec<_>, _>>()?;
    let mut table = table.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut sum = Usage::default();
    for ((pid, before), after) in pids.iter().zip(&before).zip(&after) {
        let usage = Usage::between(before, after, elapsed);
        sum = sum.and(usage);
        usage.add_to(&mut table, &format!("{} ({pid})", after.name), when, pids.len() == 1);
    }
    if pids.len() > 1 {
        sum.add_to(&mut table, "all processes", when, true);
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Usage {
    mebibytes: f64,
    /// Of one core.
    percent: f64,
    written_per_second: f64,
}

impl Usage {
    fn between(before: &Sample, after: &Sample, seconds: f64) -> Self {
        let seconds = seconds.max(f64::MIN_POSITIVE);
        Self {
            mebibytes: after.resident as f64 / MEBIBYTE,
            percent: after.ticks.saturating_sub(before.ticks) as f64 / TICKS / seconds * 100.0,
            written_per_second: after.written.saturating_sub(before.written) as f64 / seconds,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            mebibytes: self.mebibytes + other.mebibytes,
            percent: self.percent + other.percent,
            written_per_second: self.written_per_second + other.written_per_second,
        }
    }

    /// The budgets are for a whole control plane: they stand in the rows for all.
    fn add_to(self, table: &mut Table, who: &str, when: &str, whole: bool) {
        let only_whole = |expected: Option<budget::Expectation>| expected.filter(|_| whole);
        table.add(format!("idle memory of {who}, {when}"), self.mebibytes, "MiB RSS", only_whole(budget::IDLE_MEMORY));
        table.add(format!("idle CPU of {who}, {when}"), self.percent, "% of a core", only_whole(budget::IDLE_CPU));
        table.add(
            format!("idle writes of {who}, {when}"),
            self.written_per_second,
            "bytes/s",
            only_whole(budget::IDLE_WRITES),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_can_be_looked_at() {
        let sample = Sample::take(std::process::id()).unwrap();
        assert!(sample.resident > 1 << 20 && !sample.name.is_empty(), "{sample:?}");
    }

    #[test]
    fn a_process_that_does_not_exist_is_named() {
        let err = Sample::take(u32::MAX).expect_err("no such process");
        assert!(err.to_string().contains("/proc/4294967295/status"), "{err}");
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        assert_eq!(ticks("7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 30 12 13 14"), Some(42));
        assert_eq!(ticks("7 (a) S 1 2"), None);
        assert_eq!(ticks("garbage"), None);
    }

    #[test]
    fn usage_is_what_was_added_between_two_samples() {
        let sample = |ticks, written| Sample { name: "x".to_owned(), resident: 3 << 20, ticks, written };
        let usage = Usage::between(&sample(100, 5000), &sample(110, 9000), 10.0);
        assert_eq!(usage, Usage { mebibytes: 3.0, percent: 1.0, written_per_second: 400.0 });
    }
}
