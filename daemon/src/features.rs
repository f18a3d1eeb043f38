//! Feature gates: which there are, and that each is as Kubernetes has it by default.

use std::str::FromStr;

/// Every gate of the Kubernetes version that we follow, one a line, with `off` behind those that are off by default.
const GATES: &str = include_str!("feature_gates.txt");

/// Gates that may be set either way. What they stand for is there, and is turned on by `--runtime-config`: it serves the
/// groups of pods without which they mean nothing.
const EITHER: [&str; 2] = ["GangScheduling", "GenericWorkload"];

/// A gate that was set to what it is anyway, or that may be either way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureGate(String);

/// Why a gate cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeatureGateError {
    #[error("{0:?} is not of the form Name=true or Name=false")]
    Form(String),
    #[error("unrecognized feature gate: {0}")]
    Unknown(String),
    #[error("feature gate {name} cannot be turned {}", if *.on { "on: what it stands for is not there" } else { "off" })]
    Fixed { name: String, on: bool },
}

/// Checks that a gate can be set so: it can be when that is how it is by default, or when both are the same.
pub fn check_feature(name: &str, on: bool) -> Result<(), FeatureGateError> {
    let known = GATES.lines().find_map(|line| {
        let (gate, default) = line.split_once(' ').map_or((line, true), |(gate, _off)| (gate, false));
        (gate == name).then_some(default)
    });
    match known {
        None => Err(FeatureGateError::Unknown(name.to_owned())),
        Some(default) if default == on || EITHER.contains(&name) => Ok(()),
        Some(_) => Err(FeatureGateError::Fixed { name: name.to_owned(), on }),
    }
}

impl FromStr for FeatureGate {
    type Err = FeatureGateError;

    fn from_str(text: &str) -> Result<Self, FeatureGateError> {
        let form = || FeatureGateError::Form(text.to_owned());
        let (name, value) = text.split_once('=').ok_or_else(form)?;
        let (name, on) = (name.trim(), crate::pflag::boolean(value.trim()).map_err(|_| form())?);
        check_feature(name, on).map(|()| Self(name.to_owned()))
    }
}

/// `--feature-gates`, which changes nothing: a gate that is set to what is not there is refused.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FeatureGates {
    /// Features to turn on and off, as Name=true,Name=false: only to what they are by default.
    #[arg(long, value_delimiter = ',')]
    pub feature_gates: Vec<FeatureGate>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_can_be_set_to_its_default_only() {
        assert!("WatchList=true".parse::<FeatureGate>().is_ok());
        assert!("AllAlpha=false".parse::<FeatureGate>().is_ok());
        assert!("GangScheduling=true".parse::<FeatureGate>().is_ok());
        let refused = |text: &str| text.parse::<FeatureGate>().unwrap_err().to_string();
        assert_eq!(refused("WatchList=false"), "feature gate WatchList cannot be turned off");
        let why = "feature gate AllBeta cannot be turned on: what it stands for is not there";
        assert_eq!(refused("AllBeta=1"), why);
        assert_eq!(refused("NoSuchGate=true"), "unrecognized feature gate: NoSuchGate");
        assert!(refused("WatchList").contains("Name=true"));
    }

    #[test]
    fn the_list_is_sorted() {
        assert!(GATES.lines().is_sorted());
    }
}
