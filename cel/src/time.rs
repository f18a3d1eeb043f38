//! Times and durations as text (RFC 3339, Go's durations, and those of `k8s.io/kube-openapi/pkg/validation/strfmt`).

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The first and the last second that a time can have: those of the years 1 and 9999.
pub(crate) const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("\u{b5}s", 1e3),
    ("\u{3bc}s", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// Whether the time lies in the years 1 to 9999.
pub(crate) fn in_range(at: Timestamp) -> bool {
    SECONDS.contains(&at.as_second())
}

/// RFC 3339.
pub(crate) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    // The library reads more forms than the standard has.
    let plain = bytes.len() >= 20 && matches!(bytes[10], b'T' | b't' | b' ') && bytes[16] == b':';
    if !plain || text.contains('[') {
        return None;
    }
    text.parse().ok().filter(|at| in_range(*at))
}

/// RFC 3339, the date only.
pub(crate) fn parse_date(text: &str) -> Option<Timestamp> {
    if text.len() != 10 {
        return None;
    }
    let date: jiff::civil::Date = text.parse().ok()?;
    date.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp())
}

/// RFC 3339 in UTC.
pub(crate) fn show_timestamp(at: Timestamp) -> String {
    at.to_string()
}

/// Seconds: `1.5s`.
pub(crate) fn show_duration(nanos: i64) -> String {
    let (whole, rest) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    let sign = if nanos < 0 { "-" } else { "" };
    if rest == 0 {
        return format!("{sign}{whole}s");
    }
    let fraction = format!("{rest:09}");
    format!("{sign}{whole}.{}s", fraction.trim_end_matches('0'))
}

/// The nanoseconds of a duration as Go reads it: `1h15m`, `-1.5s`, `0`.
pub fn parse_go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos = nanos.checked_add(scale(number, *factor)?)?;
        rest = tail;
    }
    i64::try_from(if negative { -nanos } else { nanos }).ok()
}

fn scale(number: &str, factor: f64) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
    // As Go counts: digits first, so that a nanosecond is not lost. More of them than this are less than one.
    let digits = &fraction[..fraction.len().min(18)];
    let rest: f64 = if digits.is_empty() { 0.0 } else { digits.parse::<u64>().ok()? as f64 };
    let part = rest * (factor / 10f64.powi(digits.len() as i32));
    whole.checked_mul(factor as i128)?.checked_add(part as i128)
}

/// As schemas of format `duration` allow: Go's form, or a number with a word (`3 days`).
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    if let Some(nanos) = parse_go_duration(text) {
        return Some(nanos);
    }
    const SECOND: i64 = 1_000_000_000;
    let words: [(&[&str], i64); 8] = [
        (&["ns", "nano", "nanos", "nanosecond", "nanoseconds"], 1),
        (&["us", "micro", "micros", "microsecond", "microseconds"], 1000),
        (&["ms", "milli", "millis", "millisecond", "milliseconds"], 1_000_000),
        (&["s", "sec", "secs", "second", "seconds"], SECOND),
        (&["m", "min", "mins", "minute", "minutes"], 60 * SECOND),
        (&["h", "hr", "hrs", "hour", "hours"], 3600 * SECOND),
        (&["d", "day", "days"], 86400 * SECOND),
        (&["w", "wk", "wks", "week", "weeks"], 7 * 86400 * SECOND),
    ];
    let mut total: i64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: i64 = rest[..digits].parse().ok()?;
        let tail = rest[digits..].trim_start();
        let letters = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let word = tail[..letters].to_lowercase();
        let (_, factor) = words.iter().find(|(names, _)| names.contains(&word.as_str()))?;
        total = total.checked_add(number.checked_mul(*factor)?)?;
        rest = tail[letters..].trim_start();
    }
    Some(total)
}
