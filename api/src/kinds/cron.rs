//! The form of cron schedules: five fields, or a name such as `@hourly`.

/// The fields of a schedule: lowest and highest value, and names for values.
const FIELDS: [(u32, u32, &[&str]); 5] = [
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

/// Refuses what is not a schedule, saying why.
pub(crate) fn check(schedule: &str) -> Result<(), String> {
    if let Some(name) = schedule.strip_prefix('@') {
        return check_descriptor(schedule, name);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    for (field, (low, high, names)) in fields.iter().zip(FIELDS) {
        for range in field.split(',').filter(|part| !part.is_empty()) {
            check_range(range, low, high, names)?;
        }
    }
    Ok(())
}

fn check_descriptor(schedule: &str, name: &str) -> Result<(), String> {
    if matches!(name, "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly") {
        return Ok(());
    }
    match name.strip_prefix("every ") {
        Some(text) if is_duration(text) => Ok(()),
        Some(_) => Err(format!("failed to parse duration {schedule}: time: invalid duration {:?}", &name[6..])),
        None => Err(format!("unrecognized descriptor: {schedule}")),
    }
}

/// Whether this is a Go duration such as `1h30m`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let Some(unit) =
            ["ns", "us", "µs", "ms", "s", "m", "h"].iter().rev().find(|unit| rest[number..].starts_with(**unit))
        else {
            return false;
        };
        let unit = if rest[number..].starts_with("ms") { "ms" } else { unit };
        if number == 0 {
            return false;
        }
        rest = &rest[number + unit.len()..];
    }
    true
}

fn check_range(range: &str, low: u32, high: u32, names: &[&str]) -> Result<(), String> {
    let parts: Vec<&str> = range.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let (start, mut end) = if matches!(ends[0], "*" | "?") {
        (low, high)
    } else {
        let start = number(ends[0], low, names)?;
        let end = match ends.len() {
            1 => start,
            2 => number(ends[1], low, names)?,
            _ => return Err(format!("too many hyphens: {range}")),
        };
        (start, end)
    };
    match parts.len() {
        1 => {}
        2 => {
            let step: u32 = parts[1].parse().map_err(|_| {
                format!("failed to parse int from {0}: strconv.Atoi: parsing {0:?}: invalid syntax", parts[1])
            })?;
            if ends.len() == 1 {
                end = high;
            }
            if step == 0 {
                return Err(format!("step of range should be a positive number: {range}"));
            }
        }
        _ => return Err(format!("too many slashes: {range}")),
    }
    if start < low {
        return Err(format!("beginning of range ({start}) below minimum ({low}): {range}"));
    }
    if end > high {
        return Err(format!("end of range ({end}) above maximum ({high}): {range}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {range}"));
    }
    Ok(())
}

fn number(text: &str, low: u32, names: &[&str]) -> Result<u32, String> {
    if let Some(at) = names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        return Ok(low + u32::try_from(at).unwrap_or(0));
    }
    text.parse().map_err(|_| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read_as_upstream_reads_them() {
        for fine in ["* * * * *", "*/5 1-3 1,15 jan-mar mon", "@hourly", "@every 1h30m", "0 0 ? * 0"] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        let cases = [
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("@never", "unrecognized descriptor: @never"),
        ];
        for (schedule, want) in cases {
            assert_eq!(check(schedule), Err(want.to_owned()));
        }
    }
}
