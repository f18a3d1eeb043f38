//! The kind of the group `apiextensions.k8s.io` (upstream: `staging/src/k8s.io/apiextensions-apiserver`).

mod definition;

use super::kind::Group;

pub(crate) const GROUP: Group = Group { name: "apiextensions.k8s.io", versions: &[("v1", &[definition::KIND])] };
