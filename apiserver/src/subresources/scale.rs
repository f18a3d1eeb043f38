//! Scale: the replicas of a workload, seen and changed without knowing its kind. Upstream: `ScaleREST`.

use std::sync::Arc;

use api::apply::{ScalePaths, Writer, apply, scale_from_parent, scale_to_parent, track_update};
use api::codec::{self, FieldValidation, Target};
use api::field::{FieldError, Path};
use api::patch::{PatchType, undecodable};
use api::scale::{REPLICAS, replicas_path, scale_of};
use api::status::Qualified;
use api::{ApiError, Object, Resource, table};
use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::call::{Routed, method_not_allowed};
use crate::handler::patch_type;
use crate::registry::{Desired, check_name, check_named};
use crate::request::decode;
use crate::request::info::Deed;
use crate::request::negotiate::Shape;
use crate::request::options::{Write, WriteOptions};
use crate::response::{self, Answer};

/// Answers a request for `/scale`.
pub(super) async fn answer(routed: &Routed<'_>, bytes: Bytes, warnings: &mut Vec<String>) -> Result<Answer, ApiError> {
    let parent = match routed.call.info.deed {
        Deed::Get => routed.registry().get(&routed.target(), "").await?.object(),
        Deed::Update => put(routed, bytes, warnings).await?,
        Deed::Patch => patch(routed, bytes, warnings).await?,
        _ => return Err(method_not_allowed()),
    };
    let scale = scale_of(&routed.client_row, &parent)?;
    let tree = match routed.accept.shape {
        Shape::Table(version) => {
            let columns: Vec<Value> = table::scale_columns().iter().map(table::Column::to_value).collect();
            let mut partial = table::partial_metadata(&scale);
            partial["apiVersion"] = version.api_version().into();
            let row = json!({"cells": table::scale_cells(&scale, Timestamp::now()), "object": partial});
            let metadata = json!({"resourceVersion": scale.resource_version()});
            json!({
                "kind": "Table", "apiVersion": version.api_version(), "metadata": metadata,
                "columnDefinitions": columns, "rows": [row],
            })
        }
        Shape::PartialMetadata(_) => table::partial_metadata(&scale),
        _ => scale.into_value(),
    };
    Ok(response::value(StatusCode::OK, routed.accept, &tree))
}

async fn put(routed: &Routed<'_>, bytes: Bytes, warnings: &mut Vec<String>) -> Result<Object, ApiError> {
    let options = routed.call.write_options(Write::Update)?;
    let kind = ("autoscaling", "v1", "Scale");
    let mut scale = decode::builtin(kind, routed.call.headers(), &bytes, options.field_validation, warnings)?;
    check_named(&routed.call.info.name, &mut scale)?;
    change(routed, Change::Replace(scale), &options, Write::Update, warnings).await
}

async fn patch(routed: &Routed<'_>, bytes: Bytes, warnings: &mut Vec<String>) -> Result<Object, ApiError> {
    let kind = patch_type(routed.call.headers(), false)?;
    let what = Write::Patch { apply: kind == PatchType::Apply };
    let options = routed.call.write_options(what)?;
    change(routed, Change::Patch(kind, bytes), &options, what, warnings).await
}

async fn change(
    routed: &Routed<'_>,
    change: Change,
    options: &WriteOptions,
    what: Write,
    warnings: &mut Vec<String>,
) -> Result<Object, ApiError> {
    let scaling = Scaling {
        change,
        working_row: routed.target().working_row().clone(),
        name: routed.call.info.name.clone(),
        options: options.clone(),
    };
    let updated = routed.registry().change(&routed.target(), &scaling, options, what, warnings).await?;
    Ok(updated.written.object)
}

/// How the scale changes.
enum Change {
    Replace(Object),
    Patch(PatchType, Bytes),
}

struct Scaling {
    change: Change,
    working_row: Arc<Resource>,
    name: String,
    options: WriteOptions,
}

#[async_trait]
impl Desired for Scaling {
    async fn desired(
        &self,
        current: Option<&Object>,
        now: Timestamp,
        _warnings: &mut Vec<String>,
    ) -> Result<Object, ApiError> {
        let parent = current.ok_or_else(|| ApiError::not_found(self.working_row.qualified(), &self.name))?;
        let api_version = self.working_row.api_version();
        let replicas_path = replicas_path(&self.working_row);
        let paths = ScalePaths { api_version: &api_version, replicas: &replicas_path };
        let mut scale = scale_of(&self.working_row, parent)?;
        let tracked = self.working_row.is_custom() || matches!(self.change, Change::Patch(PatchType::Apply, _));
        if tracked {
            scale_from_parent(parent, &mut scale, &paths);
        }
        let old = scale;
        let mut scale = match &self.change {
            Change::Replace(scale) => scale.clone(),
            Change::Patch(PatchType::Apply, body) => self.apply(&old, body, now)?,
            Change::Patch(kind, body) => self.patched(&old, *kind, body)?,
        };
        if self.working_row.is_custom() && !matches!(self.change, Change::Patch(PatchType::Apply, _)) {
            track_update(Some(&old), &mut scale, Self::target()?.schema, &self.writer(now));
        }
        let replicas = scale.integer(&REPLICAS).unwrap_or(0);
        // What custom resources allow, their own rules say.
        if replicas < 0 && !self.working_row.is_custom() {
            let error = FieldError::invalid(
                &Path::new("spec").child("replicas"),
                replicas,
                "must be greater than or equal to 0",
            );
            let what = Qualified { group: "autoscaling", resource: "Scale" };
            return Err(ApiError::invalid(what, &self.name, &[error]));
        }
        let mut new = parent.clone();
        new.set(&replicas_path, replicas);
        scale_to_parent(&mut new, &scale, &paths);
        for field in ["uid", "resourceVersion"] {
            match scale.get(&["metadata", field]) {
                Some(value) => new.set_metadata(field, value.clone()),
                // Whoever scales without a version scales what there is, also where other updates need one.
                None if self.working_row.is_custom() => {}
                None => {
                    new.metadata_mut().remove(field);
                }
            }
        }
        if new.uid().is_empty() {
            new.set_metadata("uid", parent.uid());
        }
        Ok(new)
    }

    fn may_create(&self) -> bool {
        false
    }

    fn required_uid(&self) -> &str {
        match &self.change {
            Change::Replace(scale) => scale.uid(),
            Change::Patch(..) => "",
        }
    }
}

impl Scaling {
    fn target() -> Result<Target<'static>, ApiError> {
        Target::builtin("autoscaling", "v1", "Scale").ok_or_else(|| ApiError::internal("Scale has no schema"))
    }

    fn patched(&self, scale: &Object, kind: PatchType, body: &[u8]) -> Result<Object, ApiError> {
        let target = Self::target()?;
        let patched = kind.merged(scale.to_value(), body, target.schema)?;
        let shown = patched.to_string();
        let decoded = codec::decode_patched(patched, &target, FieldValidation::Ignore)
            .map_err(|err| undecodable(&shown, &err.0))?;
        let mut scale = decoded.object;
        check_named(&self.name, &mut scale)?;
        Ok(scale)
    }

    fn apply(&self, scale: &Object, body: &Bytes, now: Timestamp) -> Result<Object, ApiError> {
        let mut configuration = decode::configuration(body)?;
        check_name(&self.name, &mut configuration.object)?;
        let target = Self::target()?;
        let applied = apply(Some(scale), &configuration.object, target.schema, &self.writer(now), self.options.force)?;
        configuration.check(self.options.field_validation, &mut Vec::new())?;
        Ok(applied.object)
    }

    fn writer(&self, now: Timestamp) -> Writer<'_> {
        Writer {
            manager: &self.options.field_manager,
            api_version: "autoscaling/v1",
            kind: "Scale",
            subresource: "scale",
            status_apart: false,
            spec_apart: false,
            now,
        }
    }
}
