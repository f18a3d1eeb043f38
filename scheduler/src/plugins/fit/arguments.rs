//! The arguments of the plugins that compare nodes by their resources.

use serde::Deserialize;

use super::{BalancedAllocation, Fit, FitStrategy, Point, Resource};
use crate::framework::MAX_SCORE;
use crate::profile::{ConfigError, invalid};

/// Scores of a curve run from 0 to this.
const MAX_POINT: i64 = 10;

/// `NodeResourcesFitArgs`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct FitArgs {
    ignored_resources: Vec<String>,
    ignored_resource_groups: Vec<String>,
    scoring_strategy: ScoringStrategy,
}

/// How fitting nodes are compared.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ScoringStrategy {
    #[serde(rename = "type")]
    type_: String,
    resources: Vec<Weighed>,
    requested_to_capacity_ratio: Option<Curve>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Curve {
    shape: Vec<CurvePoint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CurvePoint {
    utilization: i64,
    score: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Weighed {
    name: String,
    #[serde(default)]
    weight: i64,
}

/// `NodeResourcesBalancedAllocationArgs`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BalancedArgs {
    resources: Vec<Weighed>,
}

pub(super) fn fit(field: &str, args: FitArgs) -> Result<Fit, ConfigError> {
    let strategy = args.scoring_strategy;
    let at = format!("{field}.scoringStrategy");
    let curve = strategy.requested_to_capacity_ratio.map(|curve| points(&at, &curve.shape)).transpose()?;
    let kind = match strategy.type_.as_str() {
        "" | "LeastAllocated" => FitStrategy::LeastAllocated,
        "MostAllocated" => FitStrategy::MostAllocated,
        "RequestedToCapacityRatio" => {
            let missing = || invalid(&format!("{at}.requestedToCapacityRatio"), "is required for this type");
            FitStrategy::RequestedToCapacityRatio(curve.ok_or_else(missing)?)
        }
        other => return Err(invalid(&format!("{at}.type"), format!("{other:?} is no strategy"))),
    };
    let mut plugin = Fit {
        ignored: args.ignored_resources,
        ignored_groups: args.ignored_resource_groups,
        strategy: kind,
        ..Fit::default()
    };
    if !strategy.resources.is_empty() {
        let resources = strategy.resources.iter().map(|resource| weighed(&at, resource));
        plugin.resources = resources.collect::<Result<_, _>>()?;
    }
    Ok(plugin)
}

/// The points of a curve: at least one, each further to the right than the one before.
fn points(at: &str, shape: &[CurvePoint]) -> Result<Vec<Point>, ConfigError> {
    let at = format!("{at}.requestedToCapacityRatio.shape");
    if shape.is_empty() {
        return Err(invalid(&at, "at least one point must be specified"));
    }
    if shape.windows(2).any(|pair| pair[0].utilization >= pair[1].utilization) {
        return Err(invalid(&at, "utilization values must be sorted in increasing order"));
    }
    let point = |point: &CurvePoint| {
        if !(0..=100).contains(&point.utilization) {
            return Err(invalid(&format!("{at}.utilization"), "must be 0 to 100"));
        }
        if !(0..=MAX_POINT).contains(&point.score) {
            return Err(invalid(&format!("{at}.score"), "must be 0 to 10"));
        }
        Ok(Point { utilization: point.utilization, score: point.score * (MAX_SCORE / MAX_POINT) })
    };
    shape.iter().map(point).collect()
}

/// A weight of zero is none, which is one.
fn weighed(at: &str, resource: &Weighed) -> Result<(Resource, i64), ConfigError> {
    let weight = if resource.weight == 0 { 1 } else { resource.weight };
    if !(1..=100).contains(&weight) {
        let why = format!("the weight of {:?} must be 1 to 100", resource.name);
        return Err(invalid(&format!("{at}.resources"), why));
    }
    Ok((Resource::named(&resource.name), weight))
}

pub(super) fn balanced(field: &str, args: BalancedArgs) -> Result<BalancedAllocation, ConfigError> {
    if args.resources.is_empty() {
        return Ok(BalancedAllocation::default());
    }
    if let Some(heavy) = args.resources.iter().find(|resource| !matches!(resource.weight, 0 | 1)) {
        return Err(invalid(&format!("{field}.resources"), format!("the weight of {:?} must be 1", heavy.name)));
    }
    Ok(BalancedAllocation { resources: args.resources.iter().map(|one| Resource::named(&one.name)).collect() })
}
