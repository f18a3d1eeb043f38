//! The flags that a process runs with, for those who look after it (upstream's `/flagz`, KEP-4828).

use clap::{ArgMatches, Command, Error, FromArgMatches};

/// All flags with their values, defaults included, in the order of their names; for `#[command(flatten)]`. It must be the
/// first field: those after it take their values away.
#[derive(Clone, Debug, Default)]
pub struct GivenFlags(pub Vec<(String, String)>);

impl clap::Args for GivenFlags {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

impl FromArgMatches for GivenFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        // What begins with a capital is a group of flags.
        let ids = matches.ids().map(clap::Id::as_str).filter(|id| !id.starts_with(|c: char| c.is_ascii_uppercase()));
        let values = |id: &str| {
            let raw = matches.try_get_raw(id).ok().flatten()?;
            Some(raw.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(","))
        };
        let mut flags: Vec<_> = ids.filter_map(|id| Some((id.replace('_', "-"), values(id)?))).collect();
        flags.sort();
        Ok(Self(flags))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[derive(Debug, clap::Args)]
    struct More {
        #[arg(long, value_delimiter = ',')]
        etcd_servers: Vec<String>,
    }

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        given: GivenFlags,
        #[arg(long, default_value_t = 6443)]
        secure_port: u16,
        #[arg(long)]
        unset: Option<String>,
        #[command(flatten)]
        more: More,
    }

    #[test]
    fn flags_are_listed_by_the_names_that_they_have_on_the_command_line() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            _common: crate::Common,
            #[command(flatten)]
            _tls: crate::TlsOptions,
        }
        for arg in Line::command().get_arguments() {
            assert_eq!(Some(arg.get_id().as_str().replace('_', "-").as_str()), arg.get_long());
        }
    }

    #[test]
    fn flags_are_listed_with_what_they_are_set_to() {
        let line: Line = clap::Parser::try_parse_from(["line", "--etcd-servers=a,b"]).unwrap();
        let flag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(line.given.0, [flag("etcd-servers", "a,b"), flag("secure-port", "6443")]);
        assert_eq!((line.secure_port, line.unset, line.more.etcd_servers.len()), (6443, None, 2));
    }
}
