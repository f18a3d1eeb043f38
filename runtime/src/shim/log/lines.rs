//! From the bytes of a stream to lines of a log, and the times in them.

use std::time::{SystemTime, UNIX_EPOCH};

/// A longer line is cut into pieces of this size.
const PIECE: usize = 16 * 1024;

/// One stream of a container, with what has come of its last line.
pub(crate) struct Stream {
    name: &'static str,
    pub(super) pending: Vec<u8>,
}

impl Stream {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, pending: Vec::new() }
    }

    pub(super) fn format(&mut self, mut bytes: &[u8], now: SystemTime, out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let room = PIECE - self.pending.len();
            let window = &bytes[..bytes.len().min(room)];
            if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
                self.line(&bytes[..end], 'F', now, out);
                bytes = &bytes[end + 1..];
            } else if window.len() == room && bytes.get(room) != Some(&b'\n') {
                self.line(window, 'P', now, out);
                bytes = &bytes[room..];
            } else {
                self.pending.extend_from_slice(window);
                bytes = &bytes[window.len()..];
                if self.pending.len() == PIECE && bytes.first() == Some(&b'\n') {
                    self.line(&[], 'F', now, out);
                    bytes = &bytes[1..];
                }
            }
        }
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
    }

    pub(super) fn line(&mut self, rest: &[u8], tag: char, now: SystemTime, out: &mut Vec<u8>) {
        out.extend_from_slice(rfc3339(now).as_bytes());
        out.extend_from_slice(format!(" {} {tag} ", self.name).as_bytes());
        out.extend_from_slice(&self.pending);
        out.extend_from_slice(rest);
        out.push(b'\n');
        self.pending.clear();
    }
}

/// Formats as Go's `RFC3339Nano` with all nine digits.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let ([year, month, day, hour, minute, second], nanos) = parts(time);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// The time in the name of a rotated log: upstream's form, and nanoseconds, because many may fall into a second.
pub(super) fn compact(time: SystemTime) -> String {
    let ([year, month, day, hour, minute, second], nanos) = parts(time);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}.{nanos:09}")
}

/// Year to second, and the nanoseconds.
fn parts(time: SystemTime) -> ([u64; 6], u32) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    ([year, month, day, second / 3600, second / 60 % 60, second % 60], since.subsec_nanos())
}

/// Year, month and day of a count of days since 1970, by Howard Hinnant's `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn formatted(chunks: &[&[u8]]) -> String {
        let (mut stream, mut out) = (Stream::new("stdout"), Vec::new());
        let now = UNIX_EPOCH + Duration::new(1_798_761_599, 5);
        for chunk in chunks {
            stream.format(chunk, now, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_get_time_stream_and_tag() {
        let expected = "2026-12-31T23:59:59.000000005Z stdout F one\n2026-12-31T23:59:59.000000005Z stdout F two\n";
        assert_eq!(formatted(&[b"one\ntw", b"o\n"]), expected);
    }

    #[test]
    fn a_line_longer_than_a_piece_is_cut() {
        let long = vec![b'x'; PIECE + 1];
        let text = formatted(&[&long, b"\n"]);
        let tags: Vec<_> = text.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
        assert_eq!(tags, ["P", "F"]);
        assert!(text.ends_with(" F x\n"));
    }

    #[test]
    fn a_line_of_exactly_one_piece_is_one_line() {
        let mut long = vec![b'x'; PIECE];
        long.push(b'\n');
        assert_eq!(formatted(&[&long]).lines().count(), 1);
    }
}
