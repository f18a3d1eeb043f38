//! CustomResourceDefinitions (upstream: `apiextensions-apiserver/pkg/apis/apiextensions`).

pub(crate) mod schema;
pub(crate) mod validate;
