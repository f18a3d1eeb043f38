//! Which version this is: of Kubernetes, whose interfaces the components have, and of the components themselves.

use std::str::FromStr;
use std::sync::OnceLock;

use crate::VERSION;

/// The Kubernetes version that the components follow.
pub const KUBERNETES_VERSION: &str = "v1.36.2";

/// What `--version=v1.36.2-...` has this process report.
static REPORTED: OnceLock<String> = OnceLock::new();

/// The Kubernetes version that this process reports of itself.
pub fn reported_version() -> &'static str {
    REPORTED.get().map_or(KUBERNETES_VERSION, String::as_str)
}

/// The Kubernetes version with ours behind it, as the kubelet reports it and `--version` prints it.
pub fn full_version() -> String {
    REPORTED.get().cloned().unwrap_or_else(|| format!("{KUBERNETES_VERSION}-coracle.{VERSION}"))
}

/// `--version`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct VersionFlag {
    /// Print the version and end; with =raw all its parts. A version of the same numbers with something behind them is
    /// reported instead of the own one.
    #[arg(long, value_name = "true|raw|VERSION", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    version: Option<Form>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    None,
    Short,
    Raw,
    Reported(String),
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match crate::pflag::boolean(text) {
            Ok(true) => Ok(Self::Short),
            Ok(false) => Ok(Self::None),
            Err(_) if text == "raw" => Ok(Self::Raw),
            Err(_) if is_reportable(text) => Ok(Self::Reported(text.to_owned())),
            Err(why) => Err(format!("{why}, or raw, or {KUBERNETES_VERSION} with -something or +something behind it")),
        }
    }
}

/// Whether a version has the numbers of ours: clients choose by them what they may ask for.
fn is_reportable(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(KUBERNETES_VERSION) else { return false };
    let part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '+');
    rest.is_empty() || (rest.len() <= 128 && rest.starts_with(['-', '+']) && rest.chars().all(part))
}

impl VersionFlag {
    /// Has this process report the version that was given, if one was.
    pub(crate) fn report(&self) {
        if let Some(Form::Reported(version)) = &self.version {
            // A process has one command line.
            let _first = REPORTED.set(version.clone());
        }
    }

    /// What to print instead of running.
    pub(crate) fn text(&self) -> Option<String> {
        let full = full_version();
        match self.version.as_ref()? {
            Form::None | Form::Reported(_) => None,
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
    }

    #[test]
    fn a_version_of_the_same_numbers_can_be_reported() {
        assert_eq!(text("v1.36.2-custom"), None);
        let reported = |text: &str| text.parse::<Form>().is_ok_and(|form| matches!(form, Form::Reported(_)));
        for good in ["v1.36.2-custom", "v1.36.2", "v1.36.2+build.7", "v1.36.2-a.1+b"] {
            assert!(reported(good), "{good}");
        }
        for bad in ["v1.36.20", "v1.36.3-custom", "v1.2.3", "1.36.2", "v1.36.2-a b", "custom", ""] {
            assert!(!reported(bad), "{bad}");
        }
    }
}
