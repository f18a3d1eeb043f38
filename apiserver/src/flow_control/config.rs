//! FlowSchemas and PriorityLevelConfigurations as data (KEP-1040).

use api::Object;
use api::kinds::mandatory_spec;
use serde_json::Value;

use super::matching::Rule;

/// What upstream gives a level that does not say.
const SHARES: u64 = 30;

/// Which requests belong to a level, and how those of one flow are told apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Schema {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) precedence: i64,
    pub(super) level: String,
    pub(super) distinguisher: Option<Distinguisher>,
    pub(super) rules: Vec<Rule>,
}

/// What makes two requests of a schema two flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distinguisher {
    ByUser,
    ByNamespace,
}

/// A priority level as it is configured.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LevelSpec {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) response: Response,
    pub(super) shares: u64,
    pub(super) lendable_percent: u64,
    /// `None` for as much as there is.
    pub(super) borrowing_percent: Option<u64>,
}

/// What a level does with requests that it has no seats for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Response {
    /// There is always a seat.
    Exempt,
    Reject,
    Queue(Queuing),
}

/// The queues of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queuing {
    pub(super) queues: usize,
    pub(super) hand: usize,
    pub(super) length: usize,
}

impl Schema {
    /// Reads an object; `None` for one that no validated object is like.
    pub(super) fn read(object: &Object) -> Option<Self> {
        let text = |tree: &Value, name: &str| tree.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        let spec = object.get(&["spec"])?;
        let distinguisher = match text(spec.get("distinguisherMethod").unwrap_or(&Value::Null), "type").as_str() {
            "ByUser" => Some(Distinguisher::ByUser),
            "ByNamespace" => Some(Distinguisher::ByNamespace),
            _ => None,
        };
        let rules = spec.get("rules").and_then(Value::as_array).into_iter().flatten();
        Some(Self {
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
            precedence: spec.get("matchingPrecedence").and_then(Value::as_i64).unwrap_or(1000),
            level: text(spec.get("priorityLevelConfiguration")?, "name"),
            distinguisher,
            rules: rules.map(Rule::read).collect(),
        })
    }

    fn mandatory(name: &str) -> Option<Self> {
        Self::read(&imagined("FlowSchema", name)?)
    }
}

impl LevelSpec {
    /// Reads an object; `None` for one whose parts do not fit together.
    pub(super) fn read(object: &Object) -> Option<Self> {
        let spec = object.get(&["spec"])?;
        let is_exempt = spec.get("type").and_then(Value::as_str) == Some("Exempt");
        // Only one level is exempt, and that one is never anything else.
        if is_exempt != (object.name() == "exempt") {
            return None;
        }
        let limits = spec.get(if is_exempt { "exempt" } else { "limited" });
        let number = |name: &str| limits.and_then(|limits| limits.get(name)).and_then(Value::as_u64);
        let response = if is_exempt { Response::Exempt } else { Response::read(limits?.get("limitResponse")?)? };
        Some(Self {
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
            response,
            shares: number("nominalConcurrencyShares").unwrap_or(if is_exempt { 0 } else { SHARES }),
            lendable_percent: number("lendablePercent").unwrap_or(0),
            borrowing_percent: number("borrowingLimitPercent"),
        })
    }

    fn mandatory(name: &str) -> Option<Self> {
        Self::read(&imagined("PriorityLevelConfiguration", name)?)
    }
}

impl Response {
    fn read(tree: &Value) -> Option<Self> {
        match (tree.get("type")?.as_str()?, tree.get("queuing").filter(|queuing| !queuing.is_null())) {
            ("Reject", None) => Some(Self::Reject),
            ("Queue", Some(queuing)) => {
                let number = |name: &str, default: u64| {
                    usize::try_from(queuing.get(name).and_then(Value::as_u64).unwrap_or(default)).ok()
                };
                let read = Queuing {
                    queues: number("queues", 64)?,
                    hand: number("handSize", 8)?,
                    length: number("queueLengthLimit", 50)?,
                };
                let fits = read.queues > 0 && (1..=read.queues).contains(&read.hand);
                fits.then_some(Self::Queue(read))
            }
            _ => None,
        }
    }
}

fn imagined(kind: &str, name: &str) -> Option<Object> {
    let spec = mandatory_spec(kind, name)?;
    Object::from_value(serde_json::json!({"kind": kind, "metadata": {"name": name}, "spec": spec}))
}

/// Adds the levels that there must be and are not.
pub(super) fn complete_levels(levels: &mut Vec<LevelSpec>) {
    for name in ["exempt", "catch-all"] {
        if !levels.iter().any(|level| level.name == name) {
            levels.extend(LevelSpec::mandatory(name));
        }
    }
}

/// The schemas in the order in which they are tried: those whose level there is, and those that there must be.
pub(super) fn in_order(mut schemas: Vec<Schema>, levels: &[LevelSpec]) -> Vec<Schema> {
    schemas.retain(|schema| levels.iter().any(|level| level.name == schema.level));
    schemas.sort_by(|one, other| (one.precedence, &one.name).cmp(&(other.precedence, &other.name)));
    let lacks = |name: &str| !schemas.iter().any(|schema| schema.name == name);
    let (no_exempt, no_catch_all) = (lacks("exempt"), lacks("catch-all"));
    if no_exempt {
        schemas.splice(0..0, Schema::mandatory("exempt"));
    }
    if no_catch_all {
        schemas.extend(Schema::mandatory("catch-all"));
    }
    schemas
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn level(name: &str, spec: Value) -> Option<LevelSpec> {
        LevelSpec::read(&Object::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap())
    }

    #[test]
    fn levels_whose_parts_do_not_fit_together_are_none() {
        let queuing = json!({"queues": 4, "handSize": 2, "queueLengthLimit": 5});
        let limited = |response: Value| json!({"type": "Limited", "limited": {"limitResponse": response}});
        let queue = level("a", limited(json!({"type": "Queue", "queuing": queuing}))).unwrap();
        assert_eq!(queue.response, Response::Queue(Queuing { queues: 4, hand: 2, length: 5 }));
        assert_eq!((queue.shares, queue.lendable_percent, queue.borrowing_percent), (SHARES, 0, None));
        assert!(level("a", limited(json!({"type": "Reject"}))).is_some());
        for bad in [json!({"type": "Queue"}), json!({"type": "Reject", "queuing": queuing}), json!({"type": "Wait"})] {
            assert_eq!(level("a", limited(bad)), None);
        }
        assert_eq!(level("a", json!({"type": "Exempt"})), None, "only one level is exempt");
        assert_eq!(level("exempt", limited(json!({"type": "Reject"}))), None);
    }

    #[test]
    fn what_must_be_there_is_imagined_in_its_place() {
        let mut levels = Vec::new();
        complete_levels(&mut levels);
        let names: Vec<_> = levels.iter().map(|level| (level.name.as_str(), level.shares)).collect();
        assert_eq!(names, [("exempt", 0), ("catch-all", 5)]);
        let schema = |name: &str, precedence: i64, level: &str| Schema {
            name: name.into(),
            uid: String::new(),
            precedence,
            level: level.into(),
            distinguisher: None,
            rules: Vec::new(),
        };
        let given = vec![schema("b", 7, "exempt"), schema("lost", 1, "gone"), schema("a", 7, "catch-all")];
        let order: Vec<_> = in_order(given, &levels).into_iter().map(|schema| schema.name).collect();
        assert_eq!(order, ["exempt", "a", "b", "catch-all"]);
    }
}
