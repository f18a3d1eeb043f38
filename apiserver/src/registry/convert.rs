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
        let Some(custom) = &to.custom else {
            let catalog = self.catalog();
            return objects.into_iter().map(|object| catalog.convert(from, to, object)).collect();
        };
        let wanted = to.api_version();
        if objects.iter().all(|object| object.api_version() == wanted) {
            return Ok(objects);
        }
        match &custom.conversion {
            Conversion::None => Ok(objects.into_iter().map(|object| renamed(object, &wanted, to)).collect()),
            Conversion::Webhook(webhook) => self.converters.convert(webhook, to, objects).await,
        }
    }

    /// As [`Self::convert`], for one object.
    pub(crate) async fn convert_one(&self, from: &Resource, to: &Resource, object: Object) -> Result<Object, ApiError> {
        let converted = self.convert(from, to, vec![object]).await?.pop();
        converted.ok_or_else(|| ApiError::internal("a conversion lost its object"))
    }
}

/// An object under another version, without what that version does not know.
fn renamed(mut object: Object, api_version: &str, to: &Resource) -> Object {
    object.set(&["apiVersion"], api_version);
    if let Some(custom) = &to.custom {
        custom.prune(&mut object);
    }
    object
}
