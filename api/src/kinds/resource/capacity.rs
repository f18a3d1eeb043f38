//! Rules for the capacity of devices: how much of it can be asked for, and counters that devices share.

use crate::kinds::rules::lists::distinct;
use crate::kinds::rules::naming;
use crate::kinds::rules::quantities::parse;
use crate::kinds::rules::tree::{Errors, Node};
use crate::quantity::Quantity;

/// Counters by name.
pub(crate) fn counters(at: &Node<'_, '_>, errors: &mut Errors) {
    const MOST: usize = 32;
    let count = at.map().map_or(0, |map| map.len());
    if count == 0 {
        errors.required(at, "");
    } else if count > MOST {
        errors.too_many(at, count, MOST);
    } else {
        for (name, _) in at.entries() {
            for why in naming::label(name) {
                errors.invalid_value(at, name, &why);
            }
        }
    }
}

/// How much of a capacity a request can ask for: only of devices that can be `shared`.
pub(crate) fn request_policy(capacity: &Node<'_, '_>, shared: bool, errors: &mut Errors) {
    let policy = capacity.field("requestPolicy");
    if policy.is_unset() {
        return;
    }
    if !shared {
        errors.forbidden(&policy, "allowMultipleAllocations must be true");
        return;
    }
    let (values, range) = (policy.field("validValues"), policy.field("validRange"));
    let name = match (values.is_empty(), range.is_set()) {
        (false, true) => {
            let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            errors.forbidden(&policy, why);
            return;
        }
        (false, false) => "validValues",
        (true, true) => "validRange",
        (true, false) => return,
    };
    let Some(usual) = parse(&policy.field("default")) else {
        errors.required(&policy.field("default"), &format!("required when {name} is defined"));
        return;
    };
    let Some(most) = parse(&capacity.field("value")) else { return };
    if range.is_set() {
        valid_range(&range, usual, most, errors);
    } else {
        valid_values(&values, usual, most, errors);
    }
}

fn valid_values(at: &Node<'_, '_>, usual: Quantity, most: Quantity, errors: &mut Errors) {
    const MOST: usize = 10;
    let values: Vec<Quantity> = at.items().filter_map(|value| parse(&value)).collect();
    for (index, pair) in values.windows(2).enumerate() {
        if let [one, next] = pair
            && one > next
        {
            errors.invalid_value(&at.index(index + 1), next.to_string(), "values must be sorted in ascending order");
        }
    }
    let key = |at: &Node<'_, '_>| parse(at).map(|value| value.value().to_string()).unwrap_or_default();
    distinct(at, MOST, key, errors, |option, errors| {
        if let Some(value) = parse(option).filter(|value| *value > most) {
            errors.invalid_value(option, value.to_string(), &format!("option is larger than capacity value: {most}"));
        }
    });
    if values.len() > MOST || !values.contains(&usual) {
        errors.invalid_value(at, usual.to_string(), "default value is not valid according to the requestPolicy");
    }
}

fn valid_range(at: &Node<'_, '_>, usual: Quantity, most: Quantity, errors: &mut Errors) {
    let (from, to, step) = (at.field("min"), at.field("max"), at.field("step"));
    let Some(least) = parse(&from) else {
        errors.required(&from, "required when validRange is defined");
        return;
    };
    let mut refuse = |wrong: bool, field: &str, value: Quantity, why: String| {
        if wrong {
            errors.invalid_value(&at.field(field), value.to_string(), &why);
        }
    };
    refuse(least > most, "min", least, format!("min is larger than capacity value: {most}"));
    refuse(usual < least, "default", usual, format!("default is less than min: {least}"));
    let last = parse(&to);
    if let Some(last) = last {
        refuse(least > last, "max", least, format!("min is larger than max: {last}"));
        refuse(last > most, "max", last, format!("max is larger than capacity value: {most}"));
        refuse(usual > last, "default", usual, format!("default is more than max: {last}"));
    }
    let Some(step) = parse(&step) else { return };
    if step <= Quantity::zero() {
        refuse(true, "step", step, "must be greater than zero".to_owned());
        return;
    }
    let one_step = least + step;
    refuse(one_step > most, "step", step, format!("one step {one_step} is larger than capacity value: {most}"));
    for value in [Some(usual), last].into_iter().flatten() {
        let off = value.value().wrapping_sub(least.value()).checked_rem(step.value()).is_none_or(|rest| rest != 0);
        refuse(off, "step", value, format!("value is not a multiple of a given step ({step}) from ({least})"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(policy: Value, want: &[&str]) {
        let capacity = json!({"value": "10", "requestPolicy": policy});
        let mut errors = Errors::default();
        request_policy(&Node::root(capacity.as_object().expect("an object")), true, &mut errors);
        assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    #[test]
    fn the_default_is_one_of_the_values() {
        check(json!({"default": "2", "validValues": ["1", "2"]}), &[]);
        check(
            json!({"default": "3", "validValues": ["2", "1", "11"]}),
            &[
                "requestPolicy.validValues[1]: Invalid value: \"1\": values must be sorted in ascending order",
                "requestPolicy.validValues[2]: Invalid value: \"11\": option is larger than capacity value: 10",
                "requestPolicy.validValues: Invalid value: \"3\": default value is not valid according to the requestPolicy",
            ],
        );
        check(
            json!({"validValues": ["1"]}),
            &["requestPolicy.default: Required value: required when validValues is defined"],
        );
    }

    #[test]
    fn a_range_goes_by_whole_steps() {
        check(json!({"default": "4", "validRange": {"min": "2", "max": "8", "step": "2"}}), &[]);
        check(
            json!({"default": "3", "validRange": {"min": "2", "step": "2"}}),
            &[
                "requestPolicy.validRange.step: Invalid value: \"3\": value is not a multiple of a given step (2) from (2)",
            ],
        );
        check(
            json!({"default": "3", "validRange": {"min": "2", "step": "0"}}),
            &["requestPolicy.validRange.step: Invalid value: \"0\": must be greater than zero"],
        );
    }
}
