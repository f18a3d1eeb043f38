//! Objects of one version as objects of another: what a client asked for, or what is stored.

use api::custom::Conversion;
use api::{ApiError, Object, Resource};

use super::Registry;

impl Registry {
    /// Objects in the version of `to`. Those of custom resources may be of any version, whatever `from` says: what was
    /// stored before the storage version changed still has the old one.
    pub(crate) async fn convert(
        &self,
        from: &Resource,
        to: &Resource,
        objects: Vec<Object>,
    ) -> Result<Vec<Object>, ApiError> {
        if let Some(custom) = &to.custom
            && let Conversion::Webhook(webhook) = &custom.conversion
        {
            return self.converters.convert(webhook, to, objects).await;
        }
        let catalog = self.catalog();
        objects.into_iter().map(|object| catalog.convert(from, to, object)).collect()
    }

    /// As [`Self::convert`], for one object.
    pub(crate) async fn convert_one(&self, from: &Resource, to: &Resource, object: Object) -> Result<Object, ApiError> {
        let converted = self.convert(from, to, vec![object]).await?.pop();
        converted.ok_or_else(|| ApiError::internal("a conversion lost its object"))
    }
}
