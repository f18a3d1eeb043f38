//! Which built-in versions are served (`--runtime-config`).

use std::str::FromStr;

use api::catalog::{Catalog, is_stable};

use crate::error::Error;

/// What upstream's API server does not have.
const METRICS: &str = "metrics.k8s.io";

/// One word of `--runtime-config`: `api/all`, `api/ga`, `api/beta`, `api/alpha` or a group and version, on or off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    what: String,
    on: bool,
}

impl FromStr for Served {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (what, value) = text.split_once('=').unwrap_or((text, ""));
        let on = if value.is_empty() { true } else { daemon::pflag::boolean(value)? };
        // The core group has no name of its own.
        let what = what.trim().strip_prefix("api/v").map_or_else(|| what.trim().to_owned(), |rest| format!("v{rest}"));
        Ok(Self { what, on })
    }
}

/// The catalog of the versions that are served: the stable ones, changed by what is asked for. Of several words the
/// one about a version is stronger than that about a level, and that stronger than the one about all.
///
/// Resource metrics are served, beta as they are, where this server can ask kubelets.
pub(crate) fn catalog(words: &[Served], asks_kubelets: bool) -> Result<Catalog, Error> {
    if words.is_empty() && !asks_kubelets {
        return Ok(Catalog::builtin());
    }
    let everything = Catalog::everything().with_resource_metrics();
    for word in words {
        check(word, &everything).map_err(|why| Error::Flag { flag: "runtime-config", why })?;
    }
    let is_default = |group: &str, version: &str| match group {
        METRICS => asks_kubelets,
        _ => is_stable(version),
    };
    let is_served = |group: &str, version: &str| is_served(words, group, version, is_default(group, version));
    let served = everything.only(is_served);
    let has_groups = is_served("scheduling.k8s.io", "v1alpha2");
    Ok(if has_groups { served.with_pod_groups() } else { served })
}

fn is_served(words: &[Served], group: &str, version: &str, default: bool) -> bool {
    let said = |what: &str| words.iter().rev().find(|word| word.what == what).map(|word| word.on);
    let named = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    // What this server cannot answer for is not turned on by a word that means all.
    let level = said(level(version)).or_else(|| said("api/all")).filter(|on| group != METRICS || !on || default);
    said(&named).or(level).unwrap_or(default)
}

fn level(version: &str) -> &'static str {
    match version {
        _ if is_stable(version) => "api/ga",
        _ if version.contains("beta") => "api/beta",
        _ => "api/alpha",
    }
}

fn check(word: &Served, everything: &Catalog) -> Result<(), String> {
    let what = word.what.as_str();
    if matches!(what, "api/all" | "api/ga" | "api/beta" | "api/alpha") {
        return Ok(());
    }
    let (group, version) = what.rsplit_once('/').unwrap_or(("", what));
    if group.contains('/') {
        return Err(format!("{what:?}: a resource is turned on and off with its version only"));
    }
    if everything.group_version(group, version).next().is_some() {
        return Ok(());
    }
    match everything.groups().iter().any(|known| known.name == group) {
        false => Err(format!("{what:?}: unknown API group")),
        true if word.on => Err(format!("{what:?}: this server does not have that version")),
        true => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Result<Catalog, String> {
        let words: Vec<Served> = words.iter().map(|word| word.parse()).collect::<Result<_, _>>()?;
        catalog(&words, false).map_err(|err| err.to_string())
    }

    #[test]
    fn resource_metrics_are_served_where_kubelets_can_be_asked() {
        let serves_metrics = |words: &[&str], asks_kubelets: bool| {
            let words: Vec<Served> = words.iter().map(|word| word.parse().unwrap()).collect();
            serves(&catalog(&words, asks_kubelets).unwrap(), METRICS, "v1beta1")
        };
        assert!(serves_metrics(&[], true) && !serves_metrics(&[], false));
        assert!(!serves_metrics(&["metrics.k8s.io/v1beta1=false"], true));
        assert!(serves_metrics(&["metrics.k8s.io/v1beta1=true"], false));
        assert!(!serves_metrics(&["api/beta=true"], false) && !serves_metrics(&["api/beta=false"], true));
    }

    fn serves(catalog: &Catalog, group: &str, version: &str) -> bool {
        catalog.group_version(group, version).next().is_some()
    }

    #[test]
    fn the_stable_versions_are_served_unless_told_otherwise() {
        let catalog = of(&[]).unwrap();
        assert!(catalog.iter().all(|row| is_stable(&row.version)));
        let catalog = of(&["batch/v1=false"]).unwrap();
        assert!(!serves(&catalog, "batch", "v1") && serves(&catalog, "apps", "v1"));
        let catalog = of(&["api/all=false", "api/v1=true", "apps/v1"]).unwrap();
        assert!(serves(&catalog, "", "v1") && serves(&catalog, "apps", "v1") && !serves(&catalog, "batch", "v1"));
    }

    #[test]
    fn levels_are_turned_on_as_a_whole() {
        let alpha = Catalog::everything().iter().filter(|row| row.version.contains("alpha")).count();
        let of_level = |words: &[&str]| {
            let catalog = of(words).unwrap();
            catalog.iter().filter(|row| row.version.contains("alpha")).count()
        };
        assert_eq!(of_level(&["api/alpha=true"]), alpha);
        assert_eq!(of_level(&["api/all=true", "api/alpha=false"]), 0);
    }

    #[test]
    fn what_is_not_there_is_named() {
        for (word, why) in [
            ("apps/v9=true", "does not have that version"),
            ("nothing.example/v1=true", "unknown API group"),
            ("apps/v1/deployments=false", "with its version only"),
            ("batch/v1=maybe", "true or false"),
        ] {
            let err = of(&[word]).unwrap_err();
            assert!(err.contains(why), "{word}: {err}");
        }
        assert!(of(&["apps/v9=false"]).is_ok());
    }
}
