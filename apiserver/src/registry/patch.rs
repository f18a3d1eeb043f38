//! Patch: JSON patch, merge patch, strategic merge patch and server-side apply, each as a way to compute an update.
//! Upstream: `handlers/patch.go`.

use std::sync::Arc;

use api::patch::PatchType;
use api::{ApiError, Object, Resource};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::narrow::{narrow, narrows_first};
use super::update::Desired;
use super::{Registry, Target, Updated, metadata};
use crate::field_managers::{self, Versions};
use crate::request::decode;
use crate::request::options::{Write, WriteOptions};

/// A patch as it came.
#[derive(Clone, Debug)]
pub struct Patch {
    pub kind: PatchType,
    pub body: Bytes,
}

struct Patching<'a> {
    patch: &'a Patch,
    working_row: &'a Arc<Resource>,
    client_row: &'a Arc<Resource>,
    registry: &'a Registry,
    namespace: &'a str,
    name: &'a str,
    subresource: &'a str,
    options: &'a WriteOptions,
}

impl Registry {
    /// Patches an object.
    pub async fn patch(
        &self,
        target: &Target<'_>,
        patch: &Patch,
        options: &WriteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Updated, ApiError> {
        let patching = Patching {
            patch,
            working_row: target.working_row(),
            client_row: target.client_row,
            registry: self,
            namespace: target.namespace,
            name: target.name,
            subresource: target.subresource,
            options,
        };
        let what = Write::Patch { apply: patch.kind == PatchType::Apply };
        self.change(target, &patching, options, what, warnings).await
    }
}

#[async_trait]
impl Desired for Patching<'_> {
    async fn desired(
        &self,
        current: Option<&Object>,
        now: Timestamp,
        warnings: &mut Vec<String>,
    ) -> Result<Object, ApiError> {
        let catalog = self.registry.catalog();
        let shown =
            || current.map(|object| catalog.convert(self.working_row, self.client_row, object.clone())).transpose();
        let mut patched = match self.patch.kind {
            PatchType::Apply => self.apply(shown()?.as_ref(), now, warnings)?,
            _ => self.merge(|| Ok(shown()?.unwrap_or_default().into_value()), warnings)?,
        };
        metadata::check_named(self.name, &mut patched)?;
        if current.is_none() && !patched.uid().is_empty() {
            let uid = patched.uid();
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(ApiError::conflict(self.client_row.qualified(), self.name, &why));
        }
        if self.working_row.namespaced && patched.namespace().is_empty() {
            patched.set_metadata("namespace", self.namespace);
        }
        let mut new = catalog.convert(self.client_row, self.working_row, patched)?;
        if self.patch.kind == PatchType::Apply {
            self.working_row.strategy.default_merged(&mut new);
        } else {
            self.working_row.strategy.default(&mut new);
            if let Some(current) = current.filter(|_| narrows_first(self.subresource)) {
                narrow(self.working_row, self.subresource, &mut new, current);
            }
            let versions = Versions { catalog: &catalog, client_row: self.client_row, working_row: self.working_row };
            field_managers::track(versions, self.subresource, current, &mut new, &self.options.field_manager, now)?;
        }
        Ok(new)
    }

    fn may_create(&self) -> bool {
        self.patch.kind == PatchType::Apply
    }
}

impl Patching<'_> {
    fn merge(
        &self,
        document: impl Fn() -> Result<Value, ApiError>,
        warnings: &mut Vec<String>,
    ) -> Result<Object, ApiError> {
        let body = &self.patch.body;
        let merged = || Ok(self.patch.kind.merged(document()?, body, self.client_row.schema())?);
        decode::patched(self.client_row, merged, self.patch.kind, body, self.options.field_validation, warnings)
    }

    fn apply(&self, shown: Option<&Object>, now: Timestamp, warnings: &mut Vec<String>) -> Result<Object, ApiError> {
        let mut applied = decode::configuration(&self.patch.body)?;
        // Whoever wants a name to be made does not mean the one in the path.
        if shown.is_none() && !applied.object.text(&["metadata", "generateName"]).is_empty() {
            metadata::check_named(self.name, &mut applied.object)?;
        }
        metadata::check_name(self.name, &mut applied.object)?;
        let merged =
            field_managers::apply(self.client_row, self.subresource, shown, &applied.object, self.options, now)?;
        applied.check(self.options.field_validation, warnings)?;
        Ok(merged)
    }
}
