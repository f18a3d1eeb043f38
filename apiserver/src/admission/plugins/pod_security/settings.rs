//! What holds where namespaces say nothing, and for whom nothing holds.

use api::Object;
use serde::Deserialize;

use super::{LABEL, minor_version};

/// How much pods may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    /// Reads a label.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }
}

/// A level and its version, as a label says them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    /// The minor version of the policy.
    pub(super) version: u32,
    pub(super) shown: String,
}

/// `defaults` of a `PodSecurityConfiguration`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(in crate::admission) struct Standards {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

/// Those for whom nothing holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::admission) struct Exemptions {
    pub(super) usernames: Vec<String>,
    pub(super) runtime_classes: Vec<String>,
    pub(super) namespaces: Vec<String>,
}

/// The settings of the plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::admission) struct Settings {
    enforce: Option<Standard>,
    audit: Option<Standard>,
    warn: Option<Standard>,
    pub(super) exempt: Exemptions,
}

/// The fields of a level and of its version.
type Fields = (&'static str, &'static str);

impl Settings {
    /// Checks levels and versions; the error names the field.
    pub(in crate::admission) fn new(
        defaults: &Standards,
        exempt: Exemptions,
    ) -> Result<Self, (&'static str, &'static str)> {
        let standard = |level: &str, version: &str, (of_level, of_version): Fields| {
            let version = if version.is_empty() { "latest" } else { version };
            let minor = minor_version(version).ok_or((of_version, "must be \"latest\" or \"v1.x\""))?;
            if level.is_empty() {
                return Ok::<_, Fields>(None);
            }
            let parsed = Level::parse(level).ok_or((of_level, "must be one of privileged, baseline, restricted"))?;
            Ok(Some(Standard { level: parsed, version: minor, shown: format!("{level}:{version}") }))
        };
        Ok(Self {
            enforce: standard(&defaults.enforce, &defaults.enforce_version, ("enforce", "enforce-version"))?,
            audit: standard(&defaults.audit, &defaults.audit_version, ("audit", "audit-version"))?,
            warn: standard(&defaults.warn, &defaults.warn_version, ("warn", "warn-version"))?,
            exempt,
        })
    }

    /// Whether something holds where a namespace says nothing.
    pub(super) fn has_defaults(&self) -> bool {
        [&self.enforce, &self.audit, &self.warn].into_iter().any(Option::is_some)
    }

    /// What holds in a namespace; a label that cannot be read is the strictest level.
    pub(super) fn standard(&self, namespace: &Object, mode: &str) -> Option<Standard> {
        let Some(level) = namespace.label(&format!("{LABEL}{mode}")) else {
            return match mode {
                "enforce" => self.enforce.clone(),
                "audit" => self.audit.clone(),
                _ => self.warn.clone(),
            };
        };
        let version = namespace.label(&format!("{LABEL}{mode}-version")).unwrap_or("latest");
        let parsed = Level::parse(level).unwrap_or(Level::Restricted);
        let name = if Level::parse(level).is_some() { level } else { "restricted" };
        let (minor, version) = minor_version(version).map_or((u32::MAX, "latest"), |minor| (minor, version));
        Some(Standard { level: parsed, version: minor, shown: format!("{name}:{version}") })
    }
}
