//! Protobuf loses nothing, in either direction.

use api::codec::protobuf::{self, MEDIA_TYPE};
use http::{Method, StatusCode};
use serde_json::Value;

use super::{Contract, includes};

impl Contract<'_> {
    /// What has no message is neither sent nor taken as one.
    async fn no_protobuf(&self) {
        let headers = [("accept", MEDIA_TYPE)];
        let (status, _) = self.client.exchange(Method::GET, &self.item(), &headers, Vec::new()).await;
        assert_eq!(status, StatusCode::NOT_ACCEPTABLE);
        let headers = [("content-type", MEDIA_TYPE)];
        let (status, _) = self.client.exchange(Method::PUT, &self.item(), &headers, b"k8s\0".to_vec()).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }

    pub(super) async fn protobuf(&self) {
        if self.row.is_custom() {
            return self.no_protobuf().await;
        }
        assert!(protobuf::has_kind(&self.row.group, &self.row.version, &self.row.kind));
        let headers = [("accept", MEDIA_TYPE), ("content-type", MEDIA_TYPE)];
        let (status, got) = self.client.exchange(Method::GET, &self.item(), &headers, Vec::new()).await;
        assert_eq!(status, StatusCode::OK);
        let (decoded, current) = (filled(&protobuf::decode(&got).unwrap()), filled(&self.current().await));
        for (name, value) in decoded.as_object().unwrap() {
            assert_eq!(Some(value), current.get(name), "{name}");
        }
        assert_eq!(decoded, current);
        let before = self.current().await;
        let (status, answer) = self.client.exchange(Method::PUT, &self.item(), &headers, got.to_vec()).await;
        assert_eq!(status, StatusCode::OK, "{answer:?}");
        assert_eq!(self.current().await, before);
        let another = self.another("two");
        let body = protobuf::encode(&another).unwrap();
        let (status, answer) = self.client.exchange(Method::POST, &self.path, &headers, body).await;
        assert_eq!(status, StatusCode::CREATED, "{answer:?}");
        assert!(includes(&protobuf::decode(&answer).unwrap()["metadata"], &another["metadata"]));
        self.remove(another["metadata"]["name"].as_str().unwrap()).await;
    }
}

/// A tree without the fields that say nothing, which one encoding spells out and another does not.
fn filled(tree: &Value) -> Value {
    match tree {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null() && *value != "" && *value != 0);
            Value::Object(fields.map(|(name, value)| (name.clone(), filled(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(filled).collect()),
        _ => tree.clone(),
    }
}
