//! ServiceAccounts (upstream: `pkg/registry/core/serviceaccount`).

use crate::kinds::kind::{Kind, Sub};
use crate::kinds::rules::tree::Node;
use crate::table::cell::Cell::{Age, Name};

pub(crate) const KIND: Kind = Kind {
    short_names: &["sa"],
    subresources: &[Sub::of("token", ("authentication.k8s.io", "v1", "TokenRequest"), Sub::CREATE)],
    cells: &[Name, Age],
    warn,
    rechecks: (1, 1),
    delete_returns_object: true,
    ..Kind::namespaced("serviceaccounts", "ServiceAccount")
};

fn warn(new: &Node<'_, '_>, _old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
    let metadata = new.field("metadata");
    if metadata.field("annotations").map().is_some_and(|map| map.contains_key(ENFORCE)) {
        texts.push(format!(
            "metadata.annotations[{ENFORCE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to \
             mounted secrets"
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::rules::checks::check_warnings;

    #[test]
    fn secrets_that_must_be_mountable_are_told() {
        check_warnings(
            warn,
            &json!({"metadata": {"annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}}),
            None,
            &[
                "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets",
            ],
        );
    }
}
