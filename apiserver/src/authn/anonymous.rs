//! Who may come without credentials: everybody, nobody, or everybody on some paths (KEP-4633), as the flag or an
//! `AuthenticationConfiguration` says.

use api::field::{FieldError, Path};
use serde::Deserialize;
use serde_json::json;

use crate::strict::Shape;

/// The fields of the part `anonymous`.
pub(super) const SHAPE: Shape =
    Shape::Fields(&[("enabled", Shape::Any), ("conditions", Shape::List(&Shape::Fields(&[("path", Shape::Any)])))]);

/// Where requests without credentials pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anonymous {
    Nowhere,
    Everywhere,
    /// On just these paths.
    On(Vec<String>),
}

impl From<bool> for Anonymous {
    fn from(allowed: bool) -> Self {
        if allowed { Self::Everywhere } else { Self::Nowhere }
    }
}

/// The part `anonymous` of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct AnonymousPart {
    enabled: bool,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Condition {
    path: String,
}

impl AnonymousPart {
    /// What it says, if nothing in it is wrong.
    pub(super) fn read(&self, errors: &mut Vec<FieldError>) -> Option<Anonymous> {
        let told = errors.len();
        let at = Path::new("anonymous").child("conditions");
        let paths: Vec<String> = self.conditions.iter().map(|condition| condition.path.clone()).collect();
        if !self.enabled && !paths.is_empty() {
            let why = "enabled should be set to true when conditions are defined";
            errors.push(FieldError::invalid(&at, json!(paths), why));
        }
        if let Some(empty) = paths.iter().position(String::is_empty) {
            errors.push(FieldError::required(&at.index(empty).child("path"), ""));
        }
        let read = if paths.is_empty() { self.enabled.into() } else { Anonymous::On(paths) };
        (errors.len() == told).then_some(read)
    }
}

impl Anonymous {
    /// Whether a request for a path passes.
    pub(crate) fn passes(&self, path: &str) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Everywhere => true,
            Self::On(paths) => paths.iter().any(|allowed| allowed == path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_list_and_none_below() {
        let some = Anonymous::On(vec!["/livez".into(), "/readyz".into()]);
        for (path, passes) in
            [("/livez", true), ("/readyz", true), ("/livez/ping", false), ("/", false), ("/livez/", false)]
        {
            assert_eq!(some.passes(path), passes, "{path}");
        }
    }
}
