//! Flags of the upstream component of the same name, so that its command lines start ours: beside those that a component
//! declares itself, all others of upstream are in a table. A flag that means nothing here is taken with a warning, one
//! that asks for what is not there is refused, and one that asks for what is there anyway is taken.

use std::fmt;
use std::marker::PhantomData;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, Error, FromArgMatches};

/// The flags that most components of upstream share, in the form of a [`Table`].
const COMMON: &str = include_str!("upstream_common.txt");

/// The flags of one component: one a line, in the order of the alphabet.
///
/// ```text
/// target-ram-mb                     takes a value, means nothing here
/// profiling?                        a switch, means nothing here
/// audit-policy-file ! no audit log  is refused for this reason, unless its value says "none" or "off"
/// watch-cache? = true ! it is on    is refused for this reason, unless its value is one of those (separated by |)
/// ```
pub trait Table: Send + Sync + 'static {
    /// The component's own flags.
    const FLAGS: &'static str;
    /// Flags of the common table that the component declares itself or does not have.
    const NOT_COMMON: &'static [&'static str] = &[];
}

/// The flags of a table that were given; for `#[command(flatten)]`.
pub struct Upstream<T> {
    ignored: Vec<&'static str>,
    table: PhantomData<fn() -> T>,
}

impl<T> Upstream<T> {
    /// Says of every flag that means nothing here that it is ignored.
    pub fn warn(&self) {
        for flag in &self.ignored {
            tracing::warn!("--{flag} means nothing here and is ignored");
        }
    }
}

/// One line of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flag {
    name: &'static str,
    is_switch: bool,
    /// The values that ask for what is there anyway, separated by `|`.
    granted: &'static str,
    refused: Option<&'static str>,
}

impl Flag {
    fn read(line: &'static str) -> Self {
        let (name, refused) = match line.split_once(" ! ") {
            Some((name, why)) => (name, Some(why)),
            None => (line, None),
        };
        let (name, granted) = name.split_once(" = ").unwrap_or((name, ""));
        let (name, is_switch) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
        let granted = if is_switch && granted.is_empty() { "false" } else { granted };
        Self { name, is_switch, granted, refused }
    }

    fn arg(self) -> Arg {
        let arg = Arg::new(self.name).long(self.name).hide(true).action(ArgAction::Append);
        if self.is_switch {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true")
        } else {
            arg.num_args(1).allow_hyphen_values(true)
        }
    }

    /// Whether a value asks for what is not there.
    fn asks(self, value: &str) -> bool {
        let value = if self.is_switch { crate::pflag::boolean(value).map_or(value, |on| truth(on)) } else { value };
        !value.is_empty() && !self.granted.split('|').any(|granted| granted == value)
    }
}

fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn flags<T: Table>() -> impl Iterator<Item = Flag> {
    let common = COMMON.lines().map(Flag::read).filter(|flag| !T::NOT_COMMON.contains(&flag.name));
    common.chain(T::FLAGS.lines().map(Flag::read))
}

impl<T: Table> clap::Args for Upstream<T> {
    fn augment_args(command: Command) -> Command {
        flags::<T>().fold(command, |command, flag| command.arg(flag.arg()))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: Table> FromArgMatches for Upstream<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut ignored = Vec::new();
        for flag in flags::<T>() {
            let Some(mut values) = matches.get_many::<String>(flag.name) else { continue };
            // Of a scalar the last value counts, and what a list asks for is not there either way.
            let asked = values.next_back().filter(|value| flag.asks(value));
            match (flag.refused, asked) {
                (Some(why), Some(value)) => {
                    let text = format!("--{}={value} is not supported: {why}\n", flag.name);
                    return Err(Error::raw(ErrorKind::InvalidValue, text));
                }
                // What it asks for is there.
                (Some(_), None) => {}
                (None, _) => ignored.push(flag.name),
            }
        }
        Ok(Self { ignored, table: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<T> Clone for Upstream<T> {
    fn clone(&self) -> Self {
        Self { ignored: self.ignored.clone(), table: PhantomData }
    }
}

impl<T> fmt::Debug for Upstream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upstream").field(&self.ignored).finish()
    }
}

/// Reads the command line of this process. A flag that is wrong or unknown ends it with exit code 1, as upstream does.
pub fn parse<C: clap::Parser>() -> C {
    crate::pflag::try_parse_from(std::env::args_os()).unwrap_or_else(|err| {
        // Nobody is left to tell when standard error is closed.
        let _closed = err.print();
        std::process::exit(if err.use_stderr() { 1 } else { 0 })
    })
}

/// Checks a component's flags: its table is sorted, no flag is declared twice, every flag of the table is taken by
/// itself or refused with a reason, and an unknown one is an error that names it.
pub fn check<T: Table, C: clap::Parser + fmt::Debug>() {
    C::command().debug_assert();
    assert!(T::FLAGS.lines().is_sorted(), "the table is sorted");
    let name = C::command().get_name().to_owned();
    let read = |argument: &str| crate::pflag::try_parse_from::<C>([name.as_str(), argument].map(Into::into));
    for flag in flags::<T>() {
        let value = if flag.is_switch { truth(flag.granted == "false") } else { "1" };
        let argument = format!("--{}={value}", flag.name);
        match (read(&argument), flag.refused) {
            (Ok(_), None) => {}
            (Err(err), Some(why)) => assert!(err.to_string().contains(why), "{argument}: {err}"),
            (got, _) => panic!("{argument}: {got:?}"),
        }
    }
    let unknown = read("--no-such-flag=1").expect_err("there is no such flag");
    assert!(unknown.to_string().contains("--no-such-flag"), "{unknown}");
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Example;

    impl Table for Example {
        const FLAGS: &'static str = "audit-file ! there is no audit\ncache? = true ! it is on\nrotate? ! nothing rotates\nsize\nstore = a|b ! it is a";
        const NOT_COMMON: &'static [&'static str] = &["profiling"];
    }

    #[derive(Debug, clap::Parser)]
    #[command(name = "example")]
    struct Line {
        #[arg(long)]
        profiling: Option<String>,
        #[command(flatten)]
        upstream: Upstream<Example>,
    }

    fn ignored(arguments: &[&str]) -> Result<Vec<&'static str>, String> {
        let line = crate::pflag::try_parse_from::<Line>([&["example"], arguments].concat().into_iter().map(Into::into));
        line.map(|line| line.upstream.ignored).map_err(|err| err.to_string())
    }

    #[test]
    fn the_table_holds() {
        check::<Example, Line>();
    }

    #[test]
    fn flags_without_a_meaning_are_taken_once_each() {
        assert_eq!(
            ignored(&["--size", "-1", "--size=2", "--contention-profiling"]),
            Ok(vec!["contention-profiling", "size"])
        );
        assert_eq!(ignored(&["--profiling=x"]), Ok(vec![]));
        assert!(ignored(&["--size"]).unwrap_err().contains("--size"));
    }

    #[test]
    fn what_is_not_there_is_refused_unless_it_is_turned_off() {
        let refused = ignored(&["--audit-file=/x"]).unwrap_err();
        assert!(refused.starts_with("error: --audit-file=/x is not supported: there is no audit\n"), "{refused}");
        assert_eq!(ignored(&["--audit-file=", "--rotate=false", "--cache=1", "--store", "b"]), Ok(vec![]));
        assert!(ignored(&["--rotate"]).unwrap_err().contains("nothing rotates"));
        assert!(ignored(&["--cache=F"]).unwrap_err().contains("--cache=F is not supported: it is on"));
        assert!(ignored(&["--store=a", "--store=c"]).unwrap_err().contains("it is a"));
    }
}
