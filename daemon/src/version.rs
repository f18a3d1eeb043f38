//! Which version this is: of Kubernetes, whose interfaces the components have, and of the components themselves.

use std::str::FromStr;

use crate::VERSION;

/// The Kubernetes version that the components follow.
pub const KUBERNETES_VERSION: &str = "v1.36.2";

/// The Kubernetes version with ours behind it, as the kubelet reports it and `--version` prints it.
pub fn full_version() -> String {
    format!("{KUBERNETES_VERSION}-coracle.{VERSION}")
}

/// `--version`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct VersionFlag {
    /// Print the version and end; with =raw all its parts.
    #[arg(long, value_name = "true|raw", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    version: Option<Form>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    None,
    Short,
    Raw,
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match crate::pflag::boolean(text) {
            Ok(true) => Ok(Self::Short),
            Ok(false) => Ok(Self::None),
            Err(_) if text == "raw" => Ok(Self::Raw),
            Err(why) => Err(format!("{why}, or raw: the version that is reported cannot be changed")),
        }
    }
}

impl VersionFlag {
    /// What to print instead of running.
    pub(crate) fn text(&self) -> Option<String> {
        let full = full_version();
        match self.version? {
            Form::None => None,
            Form::Short => Some(format!("Kubernetes {full}")),
            Form::Raw => {
                let (major, minor) = numbers();
                let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
                Some(format!(
                    "version.Info{{Major:{major:?}, Minor:{minor:?}, GitVersion:{full:?}, Platform:{platform:?}}}"
                ))
            }
        }
    }
}

/// The first two numbers of the Kubernetes version.
fn numbers() -> (&'static str, &'static str) {
    let mut numbers = KUBERNETES_VERSION.trim_start_matches('v').split('.');
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(form: &str) -> Option<String> {
        VersionFlag { version: Some(form.parse().unwrap()) }.text()
    }

    #[test]
    fn the_version_begins_as_tools_expect() {
        assert!(text("true").unwrap().starts_with("Kubernetes v1.36."));
        assert!(text("raw").unwrap().starts_with(r#"version.Info{Major:"1", Minor:"36", GitVersion:"v1.36."#));
        assert_eq!(text("false"), None);
        assert!("v1.2.3".parse::<Form>().is_err());
    }
}
