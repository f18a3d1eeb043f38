//! What was wrong with an object before may stay so while it is left alone.
//!
//! Rules become stricter from release to release, but an object that was stored before must stay changeable: whoever
//! scales a workload is not to be told of a field that somebody else got wrong long ago. So an update is only refused
//! for what it makes wrong. Rules that compare with the old object are not touched by this: they are about the change.

use serde_json::Value;

use super::tree::{Errors, Fields, is_same};
use crate::field::{FieldError, Path};

/// Takes out the errors that the old object has, too, for the same reason and at a value that has not changed.
pub(crate) fn drop_known(
    errors: Errors,
    known: impl FnOnce() -> Errors,
    new: &Fields,
    old: &Fields,
) -> Vec<FieldError> {
    if errors.0.is_empty() {
        return errors.0;
    }
    let known = known().0;
    let stays = |error: &FieldError| known.contains(error) && is_same(at(new, &error.path), at(old, &error.path));
    errors.0.into_iter().filter(|error| !stays(error)).collect()
}

/// The value at a path. Nothing where an error names a place that no field has, as some of upstream's do.
fn at<'v>(object: &'v Fields, path: &Path) -> Option<&'v Value> {
    let mut rest = path.as_str();
    let mut found: Option<&Value> = None;
    while !rest.is_empty() {
        let fields = found.map_or(Some(object), Value::as_object);
        let (value, after) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (key, after) = inner.split_once(']')?;
                let element = key.parse().ok().and_then(|index: usize| found?.as_array()?.get(index));
                (element.or_else(|| fields?.get(key)), after)
            }
            None => {
                let rest = rest.strip_prefix('.').unwrap_or(rest);
                let (name, after) = rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()));
                (fields.and_then(|fields| fields.get(name)), after)
            }
        };
        found = Some(value?);
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tree::Node;
    use super::*;

    /// Names have at most three letters, and there is one at least.
    fn names(object: &Node<'_, '_>, errors: &mut Errors) {
        let names = object.field("names");
        if names.is_empty() {
            errors.required(&names, "");
        }
        for name in names.items().filter(|name| name.text().len() > 3) {
            errors.invalid(&name, "too long");
        }
    }

    fn check(new: &Value, old: &Value, want: &[&str]) {
        let (new, old) = (new.as_object().expect("an object"), old.as_object().expect("an object"));
        let errors_of = |fields| {
            let mut errors = Errors::default();
            names(&Node::root(fields), &mut errors);
            errors
        };
        let left = drop_known(errors_of(new), || errors_of(old), new, old);
        assert_eq!(left.iter().map(|error| error.path.to_string()).collect::<Vec<_>>(), want);
    }

    #[test]
    fn only_what_an_update_makes_wrong_counts() {
        check(&json!({"names": ["long"], "more": 1}), &json!({"names": ["long"]}), &[]);
        check(&json!({"names": ["long", "longer"]}), &json!({"names": ["long"]}), &["names[1]"]);
        check(&json!({"names": ["longer"]}), &json!({"names": ["long"]}), &["names[0]"]);
        check(&json!({"more": 1}), &json!({}), &[]);
        check(&json!({}), &json!({"names": ["a"]}), &["names"]);
    }

    #[test]
    fn values_are_found_by_their_paths() {
        let object = json!({"a": [{"b": {"example.com/c": 1}}], "d": {"0": 2}});
        let object = object.as_object().expect("an object");
        let path = Path::new("a").index(0).child("b").key("example.com/c");
        assert_eq!(at(object, &path), Some(&json!(1)));
        assert_eq!(at(object, &Path::new("d").key("0")), Some(&json!(2)));
        for missing in ["a[1]", "a.b", "x[0].y", "a[0", "d[1]"] {
            assert_eq!(at(object, &Path::new(missing)), None, "{missing}");
        }
    }
}
