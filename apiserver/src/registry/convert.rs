//! Objects of one version as objects of another: what a client asked for, or what is stored.

use api::{ApiError, Object, Resource};

use super::Registry;

impl Registry {
    /// Objects in the version of `to`.
    pub(crate) async fn convert(
        &self,
        from: &Resource,
        to: &Resource,
        objects: Vec<Object>,
    ) -> Result<Vec<Object>, ApiError> {
        self.converters.convert(&self.catalog(), from, to, objects).await
    }

    /// As [`Self::convert`], for one object.
    pub(crate) async fn convert_one(&self, from: &Resource, to: &Resource, object: Object) -> Result<Object, ApiError> {
        self.converters.convert_one(&self.catalog(), from, to, object).await
    }
}
