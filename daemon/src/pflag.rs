//! Command lines as upstream's components read them, with Go's pflag: `--flag value` and `--flag=value`, `_` as good as
//! `-` in names, the last of several values of a flag counts while lists go on, a switch takes a value only behind `=`,
//! and an empty value is none.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::error::Error;
use clap::{Arg, ArgAction, Command};

/// Reads a command line; the first argument is the program.
pub fn try_parse_from<C: clap::Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<C, Error> {
    let command = adapt(C::command());
    let arguments = normalise(arguments, &command);
    let mut matches = command.try_get_matches_from(arguments)?;
    C::from_arg_matches_mut(&mut matches)
}

/// What a group of flags says when none is given: the configuration that its defaults make. Every flag must have a default
/// or be one that may be missing.
pub fn defaults<A: clap::Args>() -> A {
    let command = A::augment_args(Command::new("defaults")).no_binary_name(true);
    let matches = command.try_get_matches_from([] as [&str; 0]);
    matches.and_then(|matches| A::from_arg_matches(&matches)).expect("flags have defaults that can be read")
}

/// Reads a truth value as Go does.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// Reads a length of time as Go writes it: `1h30m`, `45s`, `1.5h`, `250ms`; none is negative here.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a duration such as 1h30m or 45s");
    let mut rest = text;
    let mut total = Duration::ZERO;
    if text == "0" {
        return Ok(total);
    }
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(bad()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = &rest[end..];
    }
    Ok(total)
}

/// Gives every flag of a command and its subcommands pflag's ways.
fn adapt(command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
    let command = command.args_override_self(true).mut_args(adapt_flag);
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, adapt))
}

/// A flag that is told its name by `id` stands for its value as others do: in capitals.
fn name_value(arg: Arg) -> Arg {
    let is_id = |names: &[clap::builder::Str]| names.iter().all(|name| name == arg.get_id().as_str());
    match arg.get_long().filter(|_| arg.get_value_names().is_some_and(is_id)) {
        Some(long) => {
            // As all texts of a command line it stays until the end.
            let shown: &'static str = long.replace('-', "_").to_uppercase().leak();
            arg.value_name(shown)
        }
        None => arg,
    }
}

fn adapt_flag(arg: Arg) -> Arg {
    let arg = name_value(arg);
    if arg.is_positional() || !is_boolean(&arg) {
        return arg;
    }
    let arg = match arg.get_action() {
        ArgAction::SetTrue if arg.get_default_values().is_empty() => arg.default_value("false"),
        _ => arg,
    };
    let arg = arg.action(ArgAction::Set).num_args(0..=1).require_equals(true).default_missing_value("true");
    arg.value_parser(boolean).hide_possible_values(true)
}

fn is_boolean(arg: &Arg) -> bool {
    let reads_boolean = arg.get_value_parser().type_id() == TypeId::of::<bool>();
    reads_boolean && matches!(arg.get_action(), ArgAction::Set | ArgAction::SetTrue)
}

/// Whether a flag can stand without a value.
fn is_switch(arg: &Arg) -> bool {
    arg.is_require_equals_set() || !arg.get_action().takes_values()
}

/// Writes every long flag as `--name=value` under its own name, and leaves out empty values.
fn normalise(arguments: impl IntoIterator<Item = OsString>, command: &Command) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let mut lines = Lines { commands: vec![command], out: arguments.next().into_iter().collect() };
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            lines.out.push(argument);
            lines.out.extend(arguments);
            break;
        }
        lines.read(argument, &mut arguments);
    }
    lines.out
}

struct Lines<'a> {
    /// The command and the subcommands chosen so far: their flags are known.
    commands: Vec<&'a Command>,
    out: Vec<OsString>,
}

impl Lines<'_> {
    fn read(&mut self, argument: OsString, rest: &mut impl Iterator<Item = OsString>) {
        let Some(flag) = argument.to_str().and_then(|text| text.strip_prefix("--")) else {
            let chosen = self.commands.last().and_then(|command| command.find_subcommand(&argument));
            self.commands.extend(chosen);
            self.out.push(argument);
            return;
        };
        let (name, given) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (flag, None),
        };
        let name = name.replace('_', "-");
        let Some(arg) = self.find(&name) else {
            self.out.push(argument);
            return;
        };
        let (switch, has_default) = (is_switch(arg), !arg.get_default_values().is_empty());
        let value = if given.is_none() && !switch { rest.next() } else { given };
        match value {
            Some(value) if value.is_empty() && !switch && !has_default => self.forget(&name),
            Some(value) => self.out.push(written(&name, Some(&value))),
            None => self.out.push(written(&name, None)),
        }
    }

    fn find(&self, name: &str) -> Option<&Arg> {
        let mut known = self.commands.iter().rev().flat_map(|command| command.get_arguments());
        known.find(|arg| arg.get_long() == Some(name))
    }

    /// An empty value takes back what was given before.
    fn forget(&mut self, name: &str) {
        let start = written(name, Some(OsStr::new("")));
        self.out.retain(|line| !line.as_encoded_bytes().starts_with(start.as_encoded_bytes()));
    }
}

fn written(name: &str, value: Option<&OsStr>) -> OsString {
    let mut line = OsString::from(format!("--{name}"));
    if let Some(value) = value {
        line.push("=");
        line.push(value);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    #[command(name = "example")]
    struct Line {
        #[arg(long, default_value_t = 6443)]
        secure_port: u16,
        #[arg(long, value_delimiter = ',')]
        etcd_servers: Vec<String>,
        #[arg(long, default_value_t = true)]
        anonymous_auth: bool,
        #[arg(long)]
        cleanup: bool,
        #[arg(long)]
        register_node: Option<bool>,
        #[arg(long)]
        client_ca_file: Option<std::path::PathBuf>,
        #[arg(long, default_value = "*")]
        controllers: String,
        #[arg(short = 'v', long = "v", default_value_t = 0)]
        verbosity: u8,
        #[arg(id = "tls-cert-file", long)]
        certificate: Option<std::path::PathBuf>,
    }

    #[derive(Debug, PartialEq, clap::Args)]
    struct Group {
        #[arg(id = "secure-port", long, default_value_t = 6443)]
        port: u16,
        #[arg(long, default_value_t = true)]
        anonymous_auth: bool,
        #[arg(long)]
        client_ca_file: Option<std::path::PathBuf>,
    }

    fn read(arguments: &[&str]) -> Result<Line, String> {
        let line = ["example"].iter().chain(arguments).map(OsString::from);
        try_parse_from(line).map_err(|err| err.to_string())
    }

    #[test]
    fn of_several_values_the_last_counts_and_lists_go_on() {
        let line =
            read(&["--secure-port=1", "--etcd-servers=a,b", "--secure_port", "2", "--etcd-servers", "c"]).unwrap();
        assert_eq!((line.secure_port, line.etcd_servers), (2, ["a", "b", "c"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn switches_take_values_only_behind_an_equals_sign() {
        let line = read(&["--anonymous-auth=F", "--cleanup", "--register-node"]).unwrap();
        assert_eq!((line.anonymous_auth, line.cleanup, line.register_node), (false, true, Some(true)));
        let line = read(&["--anonymous-auth", "--cleanup=0"]).unwrap();
        assert_eq!((line.anonymous_auth, line.cleanup, line.register_node), (true, false, None));
        assert!(read(&["--anonymous-auth", "false"]).unwrap_err().contains("false"), "it is an argument of its own");
        assert!(read(&["--cleanup=maybe"]).unwrap_err().contains("--cleanup"));
    }

    #[test]
    fn a_value_may_look_like_a_flag() {
        assert_eq!(read(&["--controllers", "-foo"]).unwrap().controllers, "-foo");
        assert_eq!(read(&["--controllers", "--cleanup"]).unwrap().controllers, "--cleanup");
    }

    #[test]
    fn an_empty_value_is_none() {
        let line =
            read(&["--client-ca-file=/x", "--etcd-servers=a", "--client-ca-file=", "--etcd-servers", ""]).unwrap();
        assert_eq!((line.client_ca_file, line.etcd_servers.len()), (None, 0));
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(duration("1h0m0s"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!((duration("100ms"), duration("0")), (Ok(Duration::from_millis(100)), Ok(Duration::ZERO)));
        for bad in ["", "5", "1x", "h", "1h2", "-5s", "1e400s", "99999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_field_may_be_called_otherwise_than_its_flag() {
        assert_eq!(read(&["--tls-cert-file=/x"]).unwrap().certificate, Some("/x".into()));
        assert!(read(&["--tls-cert-file"]).unwrap_err().contains("--tls-cert-file <TLS_CERT_FILE>"));
    }

    #[test]
    fn a_configuration_is_what_its_flags_say_when_none_is_given() {
        assert_eq!(defaults::<Group>(), Group { port: 6443, anonymous_auth: true, client_ca_file: None });
    }

    #[test]
    fn one_dash_is_for_the_letters_only() {
        assert_eq!(read(&["-v=3"]).unwrap().verbosity, 3);
        assert_eq!((read(&["-v", "4"]).unwrap().verbosity, read(&["--v=5"]).unwrap().verbosity), (4, 5));
        assert!(read(&["-secure-port=1"]).unwrap_err().contains("-s"));
        assert!(read(&["--secure-port"]).unwrap_err().contains("--secure-port"));
    }
}
