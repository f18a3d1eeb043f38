//! Which resource a key of the store belongs to, and how resources are named in the configuration.

use std::borrow::Cow;
use std::collections::HashMap;

use api::catalog::Catalog;

const ROOT: &str = "/registry/";

/// The built-in resources by where they lie; custom ones tell it by their keys.
pub(super) struct Resources(HashMap<String, String>);

impl Resources {
    pub(super) fn new(catalog: &Catalog) -> Self {
        let rows = catalog.iter().map(|row| catalog.storage_row(row));
        Self(rows.map(|row| (row.storage_prefix.to_string(), name(&row.plural, &row.group))).collect())
    }

    /// The resource of a key, as `secrets` or `deployments.apps`; `None` for what is not an object.
    pub(super) fn of<'a>(&'a self, key: &str) -> Option<Cow<'a, str>> {
        let rest = key.strip_prefix(ROOT)?;
        let mut slashes = rest.match_indices('/').map(|(at, _)| at);
        let (first, second) = (slashes.next()?, slashes.next());
        let known = second.and_then(|end| self.0.get(&rest[..end])).or_else(|| self.0.get(&rest[..first]));
        if let Some(known) = known {
            return Some(Cow::Borrowed(known));
        }
        let group = &rest[..first];
        // Groups of custom resources have a dot; what lies elsewhere is none of the API's.
        let plural = second.filter(|_| group.contains('.')).map(|end| &rest[first + 1..end])?;
        Some(Cow::Owned(name(plural, group)))
    }
}

/// `secrets`, `deployments.apps`; `*.` and `*.apps` for all of a group. Events lie in the store as those of the core group.
fn name(plural: &str, group: &str) -> String {
    match group {
        "" | "events.k8s.io" if plural != "*" => plural.to_owned(),
        group => format!("{plural}.{group}"),
    }
}

/// A resource of the configuration in the form of [`name`].
pub(super) fn canonical(text: &str) -> String {
    let (plural, group) = text.split_once('.').unwrap_or((text, ""));
    name(plural, group)
}

/// Under which names a resource may be configured, the narrowest first.
pub(super) fn names_of(resource: &str) -> [Cow<'_, str>; 3] {
    let group = resource.split_once('.').map_or("", |(_, group)| group);
    [Cow::Borrowed(resource), Cow::Owned(format!("*.{group}")), Cow::Borrowed("*.*")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_resource() {
        let resources = Resources::new(&Catalog::builtin());
        for (key, wanted) in [
            ("/registry/secrets/default/a", Some("secrets")),
            ("/registry/services/specs/default/a", Some("services")),
            ("/registry/services/endpoints/default/a", Some("endpoints")),
            ("/registry/minions/a", Some("nodes")),
            ("/registry/deployments/default/a", Some("deployments.apps")),
            ("/registry/events/default/a", Some("events")),
            (
                "/registry/apiextensions.k8s.io/customresourcedefinitions/a",
                Some("customresourcedefinitions.apiextensions.k8s.io"),
            ),
            ("/registry/example.com/pandas/default/a", Some("pandas.example.com")),
            ("/registry/ranges/servicenodeports/30000", None),
            ("/other/secrets/default/a", None),
            ("/registry/secrets", None),
        ] {
            assert_eq!(resources.of(key).as_deref(), wanted, "{key}");
        }
    }

    #[test]
    fn the_narrowest_name_is_asked_first() {
        assert_eq!(names_of("secrets"), ["secrets", "*.", "*.*"]);
        assert_eq!(names_of("pandas.example.com"), ["pandas.example.com", "*.example.com", "*.*"]);
        assert_eq!(
            ["secrets", "secrets.", "*.", "*.*", "a.b.c"].map(canonical),
            ["secrets", "secrets", "*.", "*.*", "a.b.c"]
        );
    }
}
