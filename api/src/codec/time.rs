//! Times as the API reads and prints them: RFC 3339, in UTC, with whole seconds or with six decimals.

use jiff::Timestamp;

const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
const MICROS: &str = "2006-01-02T15:04:05.000000Z07:00";

/// A `Time`, printed in UTC with whole seconds. Errors are worded as Go's `time.Parse` words them.
pub fn seconds(text: &str) -> Result<String, String> {
    parse(text, SECONDS).map(print_seconds)
}

/// A `MicroTime`, printed in UTC with six decimals.
pub fn micros(text: &str) -> Result<String, String> {
    parse(text, MICROS).map(print_micros)
}

/// The form of `Time`.
pub fn print_seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The form of `MicroTime`.
pub fn print_micros(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// A duration of so many nanoseconds as Go prints it (`time.Duration.String`): `1m0.5s`.
pub fn print_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let all = nanos.unsigned_abs();
    let decimals = |whole: u64, part: u64, width: usize| {
        let text = format!("{whole}.{part:0width$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match all {
        0 => return "0s".to_owned(),
        1..1_000 => return format!("{sign}{all}ns"),
        1_000..1_000_000 => return format!("{sign}{}\u{b5}s", decimals(all / 1_000, all % 1_000, 3)),
        1_000_000..1_000_000_000 => return format!("{sign}{}ms", decimals(all / 1_000_000, all % 1_000_000, 6)),
        _ => {}
    }
    let (seconds, part) = (all / 1_000_000_000, all % 1_000_000_000);
    let text = decimals(seconds % 60, part, 9);
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{sign}{text}s"),
        (0, minutes) => format!("{sign}{minutes}m{text}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{text}s"),
    }
}

fn parse(text: &str, layout: &'static str) -> Result<Timestamp, String> {
    let mut rest = text;
    let cannot = |rest: &str, element: &str| {
        format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {element:?}")
    };
    let out_of_range = |what: &str| format!("parsing time {text:?}: {what} out of range");
    let mut take = |element: &'static str, digits: usize| -> Result<i64, String> {
        let at = rest;
        let value = at.get(..digits).filter(|part| part.bytes().all(|b| b.is_ascii_digit()));
        let value = value.ok_or_else(|| cannot(at, element))?;
        rest = &at[digits..];
        if let Some(separator) = separator(element) {
            rest = rest.strip_prefix(separator).ok_or_else(|| cannot(rest, separator))?;
        }
        value.parse().map_err(|_| cannot(at, element))
    };
    let year = take("2006", 4)?;
    let month = take("01", 2)?;
    let day = take("02", 2)?;
    let hour = take("15", 2)?;
    let minute = take("04", 2)?;
    let second = take("05", 2)?;
    for (what, value, least, most) in
        [("month", month, 1, 12), ("hour", hour, 0, 23), ("minute", minute, 0, 59), ("second", second, 0, 59)]
    {
        if !(least..=most).contains(&value) {
            return Err(out_of_range(what));
        }
    }
    if layout == MICROS {
        let decimals = rest.strip_prefix('.').and_then(|rest| rest.get(..6));
        if !decimals.is_some_and(|part| part.bytes().all(|b| b.is_ascii_digit())) {
            return Err(cannot(rest, ".000000"));
        }
    }
    let length = match layout {
        // As many digits as the layout has.
        MICROS => ".000000".len(),
        _ => rest.len() - rest.trim_start_matches(|c: char| c == '.' || c == ',' || c.is_ascii_digit()).len(),
    };
    let (fraction, zone) = rest.split_at(length);
    let fraction = fraction.trim_start_matches(['.', ',']);
    if !is_zone(zone) {
        let end = zone.strip_prefix('Z').or_else(|| zone.get(6..).filter(|_| is_zone(&zone[..6])));
        return Err(match end {
            Some(extra) => format!("parsing time {text:?}: extra text: {extra:?}"),
            None => cannot(zone, "Z07:00"),
        });
    }
    let fraction = if fraction.is_empty() { "0" } else { &fraction[..fraction.len().min(9)] };
    let whole = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction}{zone}");
    whole.parse().map_err(|_| out_of_range("day"))
}

fn separator(element: &str) -> Option<&'static str> {
    match element {
        "2006" | "01" => Some("-"),
        "02" => Some("T"),
        "15" | "04" => Some(":"),
        _ => None,
    }
}

fn is_zone(zone: &str) -> bool {
    let bytes = zone.as_bytes();
    zone == "Z"
        || (bytes.len() == 6
            && matches!(bytes[0], b'+' | b'-')
            && bytes[3] == b':'
            && [1, 2, 4, 5].iter().all(|at| bytes[*at].is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_print_as_in_go() {
        let check = |nanos: i64, expected: &str| assert_eq!(print_duration(nanos), expected);
        check(0, "0s");
        check(1, "1ns");
        check(1_500, "1.5\u{b5}s");
        check(2_000_001, "2.000001ms");
        check(15_000_000_000, "15s");
        check(60_500_000_000, "1m0.5s");
        check(3_600_000_000_001, "1h0m0.000000001s");
        check(i64::MIN, "-2562047h47m16.854775808s");
    }

    proptest! {
        #[test]
        fn a_printed_duration_reads_as_the_same(nanos in any::<i64>()) {
            prop_assert_eq!(cel::parse_go_duration(&print_duration(nanos)), Some(nanos));
        }
    }

    #[test]
    fn times_print_in_utc() {
        assert_eq!(seconds("2024-01-02T03:04:05Z"), Ok("2024-01-02T03:04:05Z".to_owned()));
        assert_eq!(seconds("2024-01-02T03:04:05.999+02:00"), Ok("2024-01-02T01:04:05Z".to_owned()));
        assert_eq!(micros("2024-01-02T03:04:05.000001Z"), Ok("2024-01-02T03:04:05.000001Z".to_owned()));
        assert_eq!(
            micros("2024-01-02T03:04:05.123456789Z"),
            Err(concat!(
                r#"parsing time "2024-01-02T03:04:05.123456789Z" as "2006-01-02T15:04:05.000000Z07:00": "#,
                r#"cannot parse "789Z" as "Z07:00""#
            )
            .to_owned())
        );
        assert_eq!(micros("2024-01-02T03:04:05.120000Z"), Ok("2024-01-02T03:04:05.120000Z".to_owned()));
    }

    #[test]
    fn errors_are_gos() {
        let layout = r#""2006-01-02T15:04:05Z07:00""#;
        assert_eq!(seconds("x"), Err(format!(r#"parsing time "x" as {layout}: cannot parse "x" as "2006""#)));
        assert_eq!(seconds("2024"), Err(format!(r#"parsing time "2024" as {layout}: cannot parse "" as "-""#)));
        assert_eq!(
            seconds("2024-13-01T00:00:00Z"),
            Err(r#"parsing time "2024-13-01T00:00:00Z": month out of range"#.to_owned())
        );
        assert_eq!(
            seconds("2024-02-30T00:00:00Z"),
            Err(r#"parsing time "2024-02-30T00:00:00Z": day out of range"#.to_owned())
        );
        let layout = r#""2006-01-02T15:04:05.000000Z07:00""#;
        let text = "2024-01-02T03:04:05.5Z";
        assert_eq!(micros(text), Err(format!(r#"parsing time "{text}" as {layout}: cannot parse ".5Z" as ".000000""#)));
        let text = "2024-01-02T03:04:05Zx";
        assert_eq!(seconds(text), Err(format!(r#"parsing time "{text}": extra text: "x""#)));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,30}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}[.0-9]{0,12}[Z+-]?\\PC{0,8}") {
            let _ = (seconds(&text), micros(&text));
        }
    }
}
