//! PriorityLevelConfigurations: how much may be done at once (upstream:
//! `pkg/registry/flowcontrol/prioritylevelconfiguration`).

use jiff::Timestamp;
use serde_json::Value;

use super::{flow_schema, mandatory};
use crate::kinds::kind::{Kind, Sub};
use crate::kinds::rules::fill::{self, default_pointer, default_zero, object_at};
use crate::kinds::rules::shown::Shape::{Any, Number, Pointer, Struct, Text};
use crate::kinds::rules::shown::{Shown, Table};
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;
use crate::table::cell::Cell::Row;
use crate::table::cell::{NONE, age};

pub(crate) const KIND: Kind = Kind {
    subresources: &[Sub::STATUS],
    has_generation: true,
    cells: &[Row(cells)],
    default,
    fill_status: Some(|_| {}),
    validate,
    validate_status: flow_schema::validate_status,
    status_metadata: &[],
    ..Kind::cluster("prioritylevelconfigurations", "PriorityLevelConfiguration")
};

fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    if let Some(exempt) = object_at(spec, "exempt") {
        default_pointer(exempt, "nominalConcurrencyShares", 0);
        default_pointer(exempt, "lendablePercent", 0);
    }
    if let Some(limited) = object_at(spec, "limited") {
        default_pointer(limited, "nominalConcurrencyShares", 30);
        default_pointer(limited, "lendablePercent", 0);
        let response = fill::object(limited, "limitResponse");
        if let Some(queuing) = object_at(response, "queuing") {
            default_zero(queuing, "handSize", 8);
            default_zero(queuing, "queues", 64);
            default_zero(queuing, "queueLengthLimit", 50);
        }
    }
    fill::object(object.root_mut(), "status");
}

const LEVEL_SPEC: Table = &[
    ("Type", "type", Text),
    (
        "Limited",
        "limited",
        Pointer(&[
            ("NominalConcurrencyShares", "nominalConcurrencyShares", Number),
            (
                "LimitResponse",
                "limitResponse",
                Struct(&[
                    ("Type", "type", Text),
                    (
                        "Queuing",
                        "queuing",
                        Pointer(&[
                            ("Queues", "queues", Number),
                            ("HandSize", "handSize", Number),
                            ("QueueLengthLimit", "queueLengthLimit", Number),
                        ]),
                    ),
                ]),
            ),
            ("LendablePercent", "lendablePercent", Any),
            ("BorrowingLimitPercent", "borrowingLimitPercent", Any),
        ]),
    ),
    (
        "Exempt",
        "exempt",
        Pointer(&[
            ("NominalConcurrencyShares", "nominalConcurrencyShares", Any),
            ("LendablePercent", "lendablePercent", Any),
        ]),
    ),
];

/// The spec of a `PriorityLevelConfiguration`.
fn shown_spec(spec: &Node<'_, '_>) -> Shown {
    Shown::of(spec.value(), LEVEL_SPEC)
}

/// A `PriorityLevelConfiguration`.
pub(crate) fn validate(level: &Node<'_, '_>, errors: &mut Errors) {
    const FORBIDDEN: &str = "flowcontrol.k8s.io/preserve-zero-concurrency-shares";
    let metadata = level.field("metadata");
    let annotations = metadata.field("annotations");
    if annotations.field(FORBIDDEN).is_set() {
        errors.forbidden(&annotations, &format!("annotation '{FORBIDDEN}' is forbidden"));
    }
    let name = metadata.field("name").text();
    let spec = level.field("spec");
    let (kind, limited, exempt) = (spec.field("type"), spec.field("limited"), spec.field("exempt"));
    if (name == "exempt") != (kind.text() == "Exempt") {
        errors.invalid_value(&kind, kind.text(), "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    match kind.text() {
        "Exempt" => {
            if limited.is_set() {
                errors.forbidden(&limited, "must be nil if the type is not Limited");
            }
            shares(&exempt, errors);
            lendable(&exempt, errors);
        }
        "Limited" => {
            if exempt.is_set() {
                errors.forbidden(&exempt, "must be nil if the type is Limited");
            }
            if limited.is_unset() {
                errors.required(&limited, "must not be empty when type is Limited");
            } else {
                limits(&limited, errors);
            }
        }
        _ => errors.one_of(&kind, &["Exempt", "Limited"]),
    }
    fixed_level(&spec, name, errors);
}

/// Of the level for what is never held up, only the shares that others count on may change.
fn fixed_level(spec: &Node<'_, '_>, name: &str, errors: &mut Errors) {
    let Some(mut fixed) = mandatory::mandatory_spec("PriorityLevelConfiguration", name) else { return };
    let mut except = "";
    if name == "exempt" {
        fixed["exempt"] = spec.field("exempt").shown();
        except = " except the 'spec.exempt' field";
    }
    if !spec.is_same(&Node::at(&spec.path(), Some(&fixed))) {
        let why = format!("spec of '{name}'{except} must equal the fixed value");
        errors.invalid_shown(spec, &shown_spec(spec), &why);
    }
}

fn shares(at: &Node<'_, '_>, errors: &mut Errors) {
    let nominal = at.field("nominalConcurrencyShares");
    if nominal.number() < 0 {
        errors.invalid(&nominal, "must be a non-negative integer");
    }
}

fn lendable(at: &Node<'_, '_>, errors: &mut Errors) {
    let lendable = at.field("lendablePercent");
    if !(0..=100).contains(&lendable.number()) {
        errors.invalid(&lendable, "must be between 0 and 100, inclusive");
    }
}

fn limits(limited: &Node<'_, '_>, errors: &mut Errors) {
    shares(limited, errors);
    let response = limited.field("limitResponse");
    let (kind, queuing) = (response.field("type"), response.field("queuing"));
    match (kind.text(), queuing.is_set()) {
        ("Reject", true) => {
            errors.forbidden(&queuing, "must be nil if limited.limitResponse.type is not Limited");
        }
        ("Queue", false) => {
            errors.required(&queuing, "must not be empty if limited.limitResponse.type is Limited");
        }
        ("Queue", true) => queues(&queuing, errors),
        ("Reject", false) => {}
        _ => errors.one_of(&kind, &["Queue", "Reject"]),
    }
    lendable(limited, errors);
    let borrowing = limited.field("borrowingLimitPercent");
    if borrowing.number() < 0 {
        errors.invalid(&borrowing, "if specified, must be a non-negative integer");
    }
}

/// Requests are dealt to the queues of a hand, which a hash of this many bits decides.
const HASH_BITS: i64 = 60;

fn queues(at: &Node<'_, '_>, errors: &mut Errors) {
    const MOST: i64 = 10_000_000;
    let (length, queues, hand) = (at.field("queueLengthLimit"), at.field("queues"), at.field("handSize"));
    if length.number() <= 0 {
        errors.invalid_value(&length, length.number(), "must be positive");
    }
    if queues.number() <= 0 {
        errors.invalid_value(&queues, queues.number(), "must be positive");
    } else if queues.number() > MOST {
        errors.invalid(&queues, &format!("must not be greater than {MOST}"));
    }
    let bits = (queues.number() as f64).log2() * hand.number() as f64;
    if hand.number() <= 0 {
        errors.invalid_value(&hand, hand.number(), "must be positive");
    } else if hand.number() > queues.number() {
        errors.invalid(&hand, &format!("should not be greater than queues ({})", queues.number()));
    } else if bits.ceil() as i64 > HASH_BITS {
        let (deck, hand_size) = (queues.number(), hand.number());
        let why = format!(
            "required entropy bits of deckSize {deck} and handSize {hand_size} should not be greater than {HASH_BITS}"
        );
        errors.invalid(&hand, &why);
    }
}

fn cells(level: &Object, now: Timestamp) -> Vec<Value> {
    let either =
        |path: &[&str]| level.get(path).filter(|value| !value.is_null()).cloned().unwrap_or_else(|| NONE.into());
    let queuing = |field: &str| either(&["spec", "limited", "limitResponse", "queuing", field]);
    vec![
        level.name().into(),
        level.text(&["spec", "type"]).into(),
        either(&["spec", "limited", "nominalConcurrencyShares"]),
        queuing("queues"),
        queuing("handSize"),
        queuing("queueLengthLimit"),
        age(level, now).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_named_spec;
    use serde_json::json;

    #[test]
    fn only_one_level_is_exempt() {
        let want = ["spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'"];
        check_named_spec(validate, "other", json!({"type": "Exempt"}), &want);
    }

    #[test]
    fn a_hand_fits_its_deck() {
        let spec = |queues: i64, hand: i64| {
            let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 1});
            json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": queuing}}})
        };
        check_named_spec(validate, "x", spec(64, 8), &[]);
        check_named_spec(validate, "x", spec(10_000_000, 2), &[]);
        let at = "spec.limited.limitResponse.queuing";
        let bits = format!(
            "{at}.handSize: Invalid value: 8: required entropy bits of deckSize 512 and handSize 8 should not be greater than 60"
        );
        check_named_spec(validate, "x", spec(512, 8), &[&bits]);
        let large = format!("{at}.handSize: Invalid value: 8: should not be greater than queues (7)");
        check_named_spec(validate, "x", spec(7, 8), &[&large]);
    }

    #[test]
    fn only_limited_levels_show_shares() {
        let shown = |spec: Value| {
            let level = json!({"metadata": {"name": "l"}, "spec": spec});
            cells(&Object::from_value(level).expect("an object"), Timestamp::UNIX_EPOCH)[1..6].to_vec()
        };
        let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
        assert_eq!(shown(exempt), ["Exempt", NONE, NONE, NONE, NONE].map(Value::from));
        let limited = json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5,
            "limitResponse": {"type": "Queue", "queuing": {"queues": 64, "handSize": 6, "queueLengthLimit": 50}}}});
        assert_eq!(shown(limited), [json!("Limited"), json!(5), json!(64), json!(6), json!(50)]);
    }
}
