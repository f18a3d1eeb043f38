//! Who makes a call, as `/proc` tells: `proc_pid_stat(5)`.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::judge::Caller;
use crate::sys;

/// No name or path is told longer.
const MAX_TEXT: usize = 128;

/// What is known of the process of a thread. Holds only if its call still waits afterwards.
pub(super) fn find(thread: u32) -> Option<Caller> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let process: u32 = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()?;
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    let file = fs::read_link(format!("/proc/{process}/exe")).ok()?;
    let (name, started) = parse(&String::from_utf8_lossy(&stat))?;
    let now = clock_gettime(ClockId::Boottime);
    let now = Duration::new(u64::try_from(now.tv_sec).ok()?, u32::try_from(now.tv_nsec).ok()?);
    Some(Caller { name: plain(&name), file: plain(&file.to_string_lossy()), age: now.saturating_sub(started) })
}

/// A process's name, and when it was made after the machine's start.
fn parse(stat: &str) -> Option<(String, Duration)> {
    // The name may hold anything, brackets and spaces too.
    let (front, rest) = stat.rsplit_once(')')?;
    let (_, name) = front.split_once('(')?;
    let ticks: u64 = rest.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some((name.to_owned(), Duration::from_millis(ticks.saturating_mul(1000) / sys::clock_ticks())))
}

/// What a container chose, fit to be shown: short, and without control characters.
fn plain(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 250 1 1\n";
        let (name, started) = parse(stat).unwrap();
        assert_eq!((name.as_str(), started), ("a) b (c", Duration::from_millis(2500)));
        assert!(parse("").is_none());
    }

    #[test]
    fn this_process_is_found_by_its_thread() {
        let found = find(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()).unwrap();
        assert!(found.age < Duration::from_secs(3600) && !found.file.is_empty());
        assert!(find(u32::MAX).is_none());
    }

    #[test]
    fn what_is_shown_is_short_and_plain() {
        assert_eq!(plain("a\n\u{1b}[2Jb"), "a??[2Jb");
        assert_eq!(plain(&"x".repeat(5000)).len(), MAX_TEXT);
    }
}
