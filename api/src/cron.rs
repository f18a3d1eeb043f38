//! Cron schedules: five fields, or a name such as `@hourly`, read as upstream's cron library reads them.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

/// The fields of a schedule: lowest and highest value, and names for values.
const FIELDS: [(u32, u32, &[&str]); 5] = [
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];
/// A schedule that names no time within so many years, such as 30 February, has none.
const YEARS: i16 = 5;

/// When something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At every minute that the fields allow.
    Calendar(Calendar),
    /// After so much time, over and over.
    Every(SignedDuration),
}

/// The minutes that five fields allow, each as a set of bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Day of month and day of week are both restricted: either suffices.
    either_day: bool,
}

impl Schedule {
    /// Reads a schedule; the error says why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix('@') {
            return descriptor(text, name);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() != FIELDS.len() {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
        }
        Calendar::read(&fields).map(Self::Calendar)
    }

    /// The first time after `after` that is due in this time zone. `None` when there is none in the years ahead.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Calendar(calendar) => calendar.next(after, zone),
            Self::Every(pause) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*pause).ok()
            }
        }
    }
}

impl Calendar {
    fn read(fields: &[&str]) -> Result<Self, String> {
        let mut sets = [0; FIELDS.len()];
        for ((set, field), (low, high, names)) in sets.iter_mut().zip(fields).zip(FIELDS) {
            for part in field.split(',').filter(|part| !part.is_empty()) {
                *set |= range(part, low, high, names)?;
            }
        }
        let is_free = |field: &str| field.split(',').any(|part| part.starts_with(['*', '?']));
        let either_day = !is_free(fields[2]) && !is_free(fields[4]);
        let [minutes, hours, days, months, weekdays] = sets;
        Ok(Self { minutes, hours, days, months, weekdays, either_day })
    }

    /// Goes forward in steps as long as the first field that does not fit. Steps are of real time, so that an hour that a
    /// clock change repeats is there twice, and one that it leaves out is not.
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let first = Timestamp::from_second(after.as_second().div_euclid(60).checked_add(1)?.checked_mul(60)?).ok()?;
        let mut at = first.to_zoned(zone.clone());
        let last_year = at.year().checked_add(YEARS)?;
        while at.year() <= last_year {
            if !has(self.months, at.month()) {
                let (year, month) = if at.month() == 12 { (at.year() + 1, 1) } else { (at.year(), at.month() + 1) };
                at = start_of(Date::new(year, month, 1).ok()?, zone)?;
            } else if !self.has_day(&at) {
                at = start_of(at.date().tomorrow().ok()?, zone)?;
            } else if !has(self.hours, at.hour()) {
                let minutes_left = 60 - i64::from(at.minute());
                at = at.checked_add(SignedDuration::from_mins(minutes_left)).ok()?;
            } else if !has(self.minutes, at.minute()) {
                at = at.checked_add(SignedDuration::from_mins(1)).ok()?;
            } else {
                return Some(at.timestamp());
            }
        }
        None
    }

    fn has_day(&self, at: &Zoned) -> bool {
        let day = has(self.days, at.day());
        let weekday = has(self.weekdays, at.weekday().to_sunday_zero_offset());
        if self.either_day { day || weekday } else { day && weekday }
    }
}

fn has(set: u64, value: i8) -> bool {
    set >> value & 1 == 1
}

fn start_of(date: Date, zone: &TimeZone) -> Option<Zoned> {
    date.to_datetime(Time::midnight()).to_zoned(zone.clone()).ok()
}

fn descriptor(text: &str, name: &str) -> Result<Schedule, String> {
    let fields = match name {
        "yearly" | "annually" => "0 0 1 1 *",
        "monthly" => "0 0 1 * *",
        "weekly" => "0 0 * * 0",
        "daily" | "midnight" => "0 0 * * *",
        "hourly" => "0 * * * *",
        _ => {
            let Some(pause) = name.strip_prefix("every ") else {
                return Err(format!("unrecognized descriptor: {text}"));
            };
            let invalid = || format!("failed to parse duration {text}: time: invalid duration {pause:?}");
            // As upstream: whole seconds, and at least one.
            let pause = cel::parse_go_duration(pause).map(SignedDuration::from_nanos);
            return pause.map(|pause| Schedule::Every(whole_seconds(pause))).ok_or_else(invalid);
        }
    };
    Schedule::parse(fields)
}

fn whole_seconds(pause: SignedDuration) -> SignedDuration {
    SignedDuration::from_secs(pause.as_secs().max(1))
}

/// The values of one range, such as `1-5`, `*/15` or `mon`, as bits.
fn range(range: &str, low: u32, high: u32, names: &[&str]) -> Result<u64, String> {
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
    let step = match parts.len() {
        1 => 1,
        2 => {
            if ends.len() == 1 {
                end = high;
            }
            step(parts[1], range)?
        }
        _ => return Err(format!("too many slashes: {range}")),
    };
    if start < low {
        return Err(format!("beginning of range ({start}) below minimum ({low}): {range}"));
    }
    if end > high {
        return Err(format!("end of range ({end}) above maximum ({high}): {range}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {range}"));
    }
    Ok((start..=end).step_by(step).fold(0, |set, value| set | 1 << value))
}

fn step(text: &str, range: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err(format!("step of range should be a positive number: {range}")),
        Ok(step) => Ok(step),
        Err(_) => Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")),
    }
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
            assert!(Schedule::parse(fine).is_ok(), "{fine}");
        }
        let cases = [
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("@never", "unrecognized descriptor: @never"),
            ("@every 5", "failed to parse duration @every 5: time: invalid duration \"5\""),
        ];
        for (schedule, want) in cases {
            assert_eq!(Schedule::parse(schedule), Err(want.to_owned()));
        }
    }

    #[test]
    fn the_next_time_is_the_first_that_all_fields_allow() {
        let cases = [
            ("* * * * *", "2026-01-01T00:00:30Z", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "2026-01-01T00:46:00Z", "2026-01-01T01:00:00Z"),
            ("0 3 * * *", "2026-01-01T03:00:00Z", "2026-01-02T03:00:00Z"),
            ("30 4 31 * *", "2026-01-31T05:00:00Z", "2026-03-31T04:30:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 12 * * mon-fri", "2026-01-02T12:00:00Z", "2026-01-05T12:00:00Z"),
            // The 13th or a Friday.
            ("0 0 13 * fri", "2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z"),
            ("0 0 13 * fri", "2026-01-09T00:00:00Z", "2026-01-13T00:00:00Z"),
            ("@every 90s", "2026-01-01T00:00:10.5Z", "2026-01-01T00:01:40Z"),
        ];
        for (schedule, after, want) in cases {
            let next = Schedule::parse(schedule).unwrap().next(after.parse().unwrap(), &TimeZone::UTC);
            assert_eq!(next, Some(want.parse().unwrap()), "{schedule} after {after}");
        }
        let never = Schedule::parse("0 0 30 2 *").unwrap();
        assert_eq!(never.next("2026-01-01T00:00:00Z".parse().unwrap(), &TimeZone::UTC), None);
    }

    #[test]
    fn a_repeated_hour_is_there_twice_and_one_left_out_is_not() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let next = |after: &str| {
            let at = Schedule::parse("30 2 * * *").unwrap().next(after.parse().unwrap(), &zone).unwrap();
            at.to_string()
        };
        assert_eq!(next("2026-03-28T12:00:00Z"), "2026-03-30T00:30:00Z");
        assert_eq!(next("2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
        assert_eq!(next("2026-10-25T00:30:00Z"), "2026-10-25T01:30:00Z");
    }
}
