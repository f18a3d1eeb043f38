//! The labels of a cached object, in as few bytes as they take.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use api::selector::LabelSelector;
use serde_json::{Map, Value};

/// Labels, sorted by key.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// One bit for each label: whoever lacks one of a selector's need not be looked at.
    marks: Marks,
    pairs: Box<[(Box<str>, Box<str>)]>,
}

/// A set of labels in 64 bits: what it lacks is certainly not in the set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u64);

impl Marks {
    /// The labels that a selected object has.
    pub fn wanted_by(selector: &LabelSelector) -> Self {
        selector.exact().map(Self::of).fold(Self::default(), Self::with)
    }

    fn of((key, value): (&str, &str)) -> Self {
        Self(1 << (BuildHasherDefault::<DefaultHasher>::default().hash_one((key, value)) % 64))
    }

    fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Labels {
    /// The labels in a tree; what is no text has no value.
    pub fn of(labels: Option<&Map<String, Value>>) -> Self {
        let texts = labels.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
        let mut pairs: Vec<(Box<str>, Box<str>)> =
            texts.map(|(key, value)| (Box::from(key), Box::from(value))).collect();
        pairs.sort();
        let marks = pairs.iter().map(|(key, value)| Marks::of((key, value))).fold(Marks::default(), Marks::with);
        Self { marks, pairs: pairs.into() }
    }

    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.pairs.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        Some(&self.pairs[at].1)
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Whether a key is as asked for.
    pub fn any(&self, is_wanted: impl Fn(&str) -> bool) -> bool {
        self.pairs.iter().any(|(key, _)| is_wanted(key))
    }

    /// Whether these may be the labels of an object with all of `wanted`; "no" is certain.
    pub fn may_have(&self, wanted: Marks) -> bool {
        self.marks.0 & wanted.0 == wanted.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_are_found_by_key_and_marked() {
        let labels = Labels::of(json!({"b": "1", "a": "2", "n": 3}).as_object());
        assert_eq!(["a", "b", "n", "x"].map(|key| labels.get(key)), [Some("2"), Some("1"), None, None]);
        let may = |text: &str| labels.may_have(Marks::wanted_by(&text.parse().unwrap()));
        assert!(may("") && may("a=2") && may("a=2,b in (1)") && may("a!=2") && may("!a"));
        let unlike = (0..100).filter(|value| !may(&format!("a=x{value}"))).count();
        assert!(unlike > 50, "{unlike} of 100");
    }
}
