//! How webhooks and policies see the objects of a request: in the version that their rules name, and as what the client
//! sent where the registry works on something larger (a scale is a part of its workload). Upstream's
//! `plugin/webhook/generic/conversion.go`.

use api::codec::{self, FieldValidation, Target};
use api::resource::GroupVersionKind;
use api::scale::{replicas_path, scale_of};
use api::{ApiError, Object, Resource};
use serde_json::Value;

use super::Attributes;
use crate::conversion::Converters;

/// The kind of the bodies of a resource or subresource.
pub fn kind_of(row: &Resource, subresource: &str) -> GroupVersionKind {
    let own = || GroupVersionKind { group: row.group.clone(), version: row.version.clone(), kind: row.kind.clone() };
    row.subresource(subresource).and_then(|sub| sub.kind.clone()).unwrap_or_else(own)
}

impl Attributes<'_> {
    /// `object` as an object of `row`, which is the resource in some version.
    pub(crate) async fn show(
        &self,
        converters: &Converters,
        row: &Resource,
        object: &Object,
    ) -> Result<Object, ApiError> {
        if !self.is_stored_form(object) {
            return Ok(object.clone());
        }
        if self.shows_scale() {
            return scale_of(self.resource, object);
        }
        converters.convert_one(self.catalog, self.resource, row, object.clone()).await
    }

    /// The object before the request, as [`Self::show`] shows it.
    pub(crate) async fn show_old(&self, converters: &Converters, row: &Resource) -> Result<Option<Object>, ApiError> {
        match self.old {
            Some(old) => self.show(converters, row, old).await.map(Some),
            None => Ok(None),
        }
    }

    /// Takes over what somebody has made of the shown object.
    pub(crate) async fn take(
        &self,
        converters: &Converters,
        row: &Resource,
        object: &mut Object,
        changed: Value,
    ) -> Result<(), ApiError> {
        let stored = self.is_stored_form(object);
        let whole = stored && !self.shows_scale();
        let kind = kind_of(row, self.subresource);
        let unknown = || ApiError::internal(format!("{} has no schema", kind.kind));
        let target = if whole {
            Target::of(row)
        } else {
            Target::builtin(&kind.group, &kind.version, &kind.kind).ok_or_else(unknown)?
        };
        let decoded = codec::decode_value(changed, &target, FieldValidation::Ignore).map_err(ApiError::internal)?;
        if whole {
            *object = converters.convert_one(self.catalog, row, self.resource, decoded.object).await?;
            self.resource.strategy.default(object);
        } else if stored {
            object.set(&replicas_path(self.resource), decoded.object.integer(&["spec", "replicas"]).unwrap_or(0));
        } else {
            *object = decoded.object;
        }
        Ok(())
    }

    /// Whether it is one of the resource's objects, not the body of a subresource.
    fn is_stored_form(&self, object: &Object) -> bool {
        object.kind() == self.resource.kind && object.api_version() == self.resource.api_version()
    }

    fn shows_scale(&self) -> bool {
        self.subresource == "scale"
    }
}
