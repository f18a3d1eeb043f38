//! OpenAPI v3: the index of documents, and one document a group and version. Documents are made when first asked for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use api::ApiError;
use api::catalog::Catalog;
use bytes::Bytes;
use http::StatusCode;

use crate::handler::Call;
use crate::response::{self, Answer};

/// Documents that were asked for, by group and version, with the hash of what they were made of.
#[derive(Debug, Default)]
pub(crate) struct Documents(Mutex<HashMap<(String, String), (String, Bytes)>>);

impl Documents {
    fn get(&self, catalog: &Catalog, group: &str, version: &str) -> Option<Bytes> {
        let hash = api::openapi::hash(catalog, group, version);
        let key = (group.to_owned(), version.to_owned());
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some((_, bytes)) = known.filter(|(made_of, _)| *made_of == hash) {
            return Some(bytes);
        }
        let document = api::openapi::document(catalog, group, version)?;
        let bytes = Bytes::from(serde_json::to_vec(&document).expect("JSON trees with string keys always serialise"));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (hash, bytes.clone()));
        Some(bytes)
    }
}

/// Answers a path below `/openapi/`.
pub(crate) fn answer(call: &Call<'_>) -> Result<Answer, ApiError> {
    let path = call.info.path.trim_end_matches('/');
    let catalog = call.core.registry.catalog();
    let Some(rest) = path.strip_prefix("/openapi/v3") else { return Ok(response::page_not_found()) };
    let parts: Vec<&str> = rest.trim_start_matches('/').split('/').collect();
    let document = match parts.as_slice() {
        [""] => {
            let bytes = serde_json::to_vec(&api::openapi::index(&catalog)).map_err(ApiError::internal)?;
            return Ok(response::with_type(StatusCode::OK, "text/plain; charset=utf-8", bytes.into()));
        }
        ["api", version] => call.core.documents.get(&catalog, "", version),
        ["apis", group, version] => call.core.documents.get(&catalog, group, version),
        _ => None,
    };
    Ok(document.map_or_else(response::no_document, |bytes| response::json_bytes(StatusCode::OK, bytes)))
}
