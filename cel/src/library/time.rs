//! Times and durations: conversions, and their parts in a time zone.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

use crate::error::Error;
use crate::function::Library;
use crate::time::{SECONDS, parse_go_duration, parse_timestamp};
use crate::value::Value;

pub(super) fn to_timestamp<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    match value {
        Value::Timestamp(_) => Some(value.clone()),
        Value::String(text) => parse_timestamp(text).map(Value::Timestamp),
        Value::Int(seconds) if SECONDS.contains(seconds) => Timestamp::from_second(*seconds).ok().map(Value::Timestamp),
        _ => None,
    }
}

pub(super) fn to_duration<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    match value {
        Value::Duration(_) => Some(value.clone()),
        Value::String(text) => parse_go_duration(text).map(Value::Duration),
        Value::Int(nanos) => Some(Value::Duration(*nanos)),
        _ => None,
    }
}

/// `UTC`, a name like `Europe/Berlin`, or an offset like `+02:00`.
fn zone(name: &str) -> Result<TimeZone, Error> {
    if let Some((hours, minutes)) = name.split_once(':') {
        let fixed = || {
            let (negative, hours) = match hours.strip_prefix('-') {
                Some(hours) => (true, hours),
                None => (false, hours.strip_prefix('+').unwrap_or(hours)),
            };
            let seconds =
                hours.parse::<i32>().ok()?.checked_mul(3600)? + minutes.parse::<i32>().ok()?.checked_mul(60)?;
            Offset::from_seconds(if negative { -seconds } else { seconds }).ok()
        };
        return fixed().map(TimeZone::fixed).ok_or_else(|| Error::new(format!("unknown time zone {name}")));
    }
    match name {
        "" | "UTC" => Ok(TimeZone::UTC),
        name => TimeZone::get(name).map_err(|_| Error::new(format!("unknown time zone {name}"))),
    }
}

fn part(at: &Zoned, name: &str) -> i64 {
    let civil: DateTime = at.datetime();
    match name {
        "getFullYear" => civil.year().into(),
        "getMonth" => i64::from(civil.month()) - 1,
        "getDate" => civil.day().into(),
        "getDayOfMonth" => i64::from(civil.day()) - 1,
        "getDayOfWeek" => civil.weekday().to_sunday_zero_offset().into(),
        "getDayOfYear" => i64::from(civil.day_of_year()) - 1,
        "getHours" => civil.hour().into(),
        "getMinutes" => civil.minute().into(),
        "getSeconds" => civil.second().into(),
        _ => i64::from(civil.subsec_nanosecond()) / 1_000_000,
    }
}

fn duration_part(nanos: i64, name: &str) -> i64 {
    let unit = match name {
        "getHours" => 3_600_000_000_000,
        "getMinutes" => 60_000_000_000,
        "getSeconds" => 1_000_000_000,
        _ => return nanos / 1_000_000 % 1000,
    };
    nanos / unit
}

/// `getHours()` and the like.
pub(super) fn accessors(mut library: Library) -> Library {
    let names = [
        "getFullYear",
        "getMonth",
        "getDate",
        "getDayOfMonth",
        "getDayOfWeek",
        "getDayOfYear",
        "getHours",
        "getMinutes",
        "getSeconds",
        "getMilliseconds",
    ];
    for name in names {
        let answer = move |at: &Timestamp, zone: TimeZone| Ok(Value::Int(part(&at.to_zoned(zone), name)));
        library = library
            .function(&format!("timestamp_{name}: timestamp.{name}(): int"), move |args| match args {
                [Value::Timestamp(at)] => answer(at, TimeZone::UTC),
                _ => Err(Error::no_overload()),
            })
            .function(&format!("timestamp_{name}_tz: timestamp.{name}(string): int"), move |args| match args {
                [Value::Timestamp(at), Value::String(name)] => answer(at, zone(name)?),
                _ => Err(Error::no_overload()),
            });
    }
    for name in ["getHours", "getMinutes", "getSeconds", "getMilliseconds"] {
        library = library.function(&format!("duration_{name}: duration.{name}(): int"), move |args| match args {
            [Value::Duration(nanos)] => Ok(Value::Int(duration_part(*nanos, name))),
            _ => Err(Error::no_overload()),
        });
    }
    library
}
