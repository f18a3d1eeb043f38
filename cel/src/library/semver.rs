//! Semantic versions.

use std::cmp::Ordering;

use crate::error::Error;
use crate::function::Library;
use crate::types::Type;
use crate::value::{Opaque, Value};

const NAME: &str = "kubernetes.Semver";

/// A semantic version. Its build does not count.
#[derive(Debug, PartialEq, Eq)]
pub struct SemanticVersion {
    numbers: [u64; 3],
    pre: Vec<Part>,
}

/// A part of what comes after the numbers; numbers sort before words.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Word(String),
}

impl Opaque for SemanticVersion {
    fn type_name(&self) -> &str {
        NAME
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        other.downcast::<Self>() == Some(self)
    }
}

impl SemanticVersion {
    /// Reads `1.2.3-pre+build`; `None` when it is no such thing.
    pub fn parse(text: &str) -> Option<Self> {
        parse(text)
    }

    /// Which of two is newer.
    pub fn compare(&self, other: &Self) -> Ordering {
        let release = |version: &Self| version.pre.is_empty();
        self.numbers
            .cmp(&other.numbers)
            .then_with(|| release(self).cmp(&release(other)))
            .then_with(|| self.pre.cmp(&other.pre))
    }
}

fn number(text: &str) -> Option<u64> {
    let sound = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    sound.then(|| text.parse().ok()).flatten()
}

fn parse(text: &str) -> Option<SemanticVersion> {
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if build.is_some_and(|build| !build.split('.').all(word)) {
        return None;
    }
    let numbers: Vec<u64> = core.split('.').map(number).collect::<Option<_>>()?;
    let part = |text: &str| {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return number(text).map(Part::Number);
        }
        word(text).then(|| Part::Word(text.to_owned()))
    };
    let pre = pre.map_or(Some(Vec::new()), |pre| pre.split('.').map(part).collect())?;
    Some(SemanticVersion { numbers: numbers.try_into().ok()?, pre })
}

/// What people write made a version: `v1.2` is `1.2.0`.
fn normalised(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let mut parts: Vec<String> = core
        .split('.')
        .map(|part| {
            let short = part.trim_start_matches('0');
            if short.is_empty() && !part.is_empty() { "0".to_owned() } else { short.to_owned() }
        })
        .collect();
    // Only what ends with its numbers is filled up.
    while parts.len() < 3 && rest.is_empty() {
        parts.push("0".to_owned());
    }
    format!("{}{rest}", parts.join("."))
}

fn read(args: &[Value<'_>]) -> Result<Option<SemanticVersion>, Error> {
    match args {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => Ok(parse(text)),
        [Value::String(text), Value::Bool(true)] => Ok(parse(&normalised(text))),
        _ => Err(Error::no_overload()),
    }
}

fn version<'v>(value: Option<&'v Value<'_>>) -> Result<&'v SemanticVersion, Error> {
    match value {
        Some(Value::Opaque(value)) => value.downcast().ok_or_else(Error::no_overload),
        _ => Err(Error::no_overload()),
    }
}

fn order(args: &[Value<'_>]) -> Result<Ordering, Error> {
    Ok(version(args.first())?.compare(version(args.get(1))?))
}

pub(super) fn library() -> Library {
    let parsed =
        |args: &[Value<'_>]| read(args)?.map(Value::opaque).ok_or_else(|| Error::new("invalid semantic version"));
    let question = |args: &[Value<'_>]| Ok(Value::Bool(read(args)?.is_some()));
    let mut library = Library::new()
        .type_(NAME, Type::opaque(NAME))
        .function("string_to_semver: semver(string): kubernetes.Semver", move |args| parsed(args))
        .function("string_bool_to_semver: semver(string, bool): kubernetes.Semver", move |args| parsed(args))
        .function("is_semver_string: isSemver(string): bool", move |args| question(args))
        .function("is_semver_string_bool: isSemver(string, bool): bool", move |args| question(args))
        .function("semver_is_greater_than: kubernetes.Semver.isGreaterThan(kubernetes.Semver): bool", |args| {
            Ok(Value::Bool(order(args)? == Ordering::Greater))
        })
        .function("semver_is_less_than: kubernetes.Semver.isLessThan(kubernetes.Semver): bool", |args| {
            Ok(Value::Bool(order(args)? == Ordering::Less))
        })
        .function("semver_compare_to: kubernetes.Semver.compareTo(kubernetes.Semver): int", |args| {
            Ok(Value::Int(order(args)? as i64))
        });
    for (at, name) in ["major", "minor", "patch"].into_iter().enumerate() {
        library = library.function(&format!("semver_{name}: kubernetes.Semver.{name}(): int"), move |args| {
            Ok(Value::Int(i64::try_from(version(args.first())?.numbers[at]).unwrap_or(i64::MAX)))
        });
    }
    library
}
