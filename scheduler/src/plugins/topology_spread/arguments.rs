//! `PodTopologySpreadArgs` of a profile.

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use serde::Deserialize;
use serde_json::Value;

use super::PodTopologySpread;
use crate::profile::{ConfigError, invalid, typed};

/// `PodTopologySpreadArgs`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct TopologySpreadArgs {
    default_constraints: Vec<Value>,
    defaulting_type: String,
}

pub(super) fn read(field: &str, args: TopologySpreadArgs) -> Result<PodTopologySpread, ConfigError> {
    let given = !args.default_constraints.is_empty();
    let at = format!("{field}.defaultConstraints");
    let constraints = args.default_constraints.into_iter().enumerate().map(|(number, constraint)| {
        let at = format!("{at}[{number}]");
        let constraint = typed(&at, constraint)?;
        check_default(&at, &constraint).map(|()| constraint)
    });
    let constraints: Vec<TopologySpreadConstraint> = constraints.collect::<Result<_, _>>()?;
    match args.defaulting_type.as_str() {
        "" | "System" if given => {
            Err(invalid(&at, "when .defaultingType is \"System\", .defaultConstraints must be empty"))
        }
        "" | "System" => Ok(PodTopologySpread::default()),
        "List" => Ok(PodTopologySpread::with_defaults(constraints)),
        other => Err(invalid(&format!("{field}.defaultingType"), format!("{other:?} is neither System nor List"))),
    }
}

fn check_default(at: &str, constraint: &TopologySpreadConstraint) -> Result<(), ConfigError> {
    if constraint.max_skew <= 0 {
        return Err(invalid(&format!("{at}.maxSkew"), "must be above zero"));
    }
    if constraint.topology_key.is_empty() {
        return Err(invalid(&format!("{at}.topologyKey"), "can not be empty"));
    }
    if !matches!(constraint.when_unsatisfiable.as_str(), "DoNotSchedule" | "ScheduleAnyway") {
        return Err(invalid(&format!("{at}.whenUnsatisfiable"), "is neither DoNotSchedule nor ScheduleAnyway"));
    }
    if constraint.label_selector.is_some() {
        return Err(invalid(&format!("{at}.labelSelector"), "must not be set: it is found for each pod"));
    }
    Ok(())
}
