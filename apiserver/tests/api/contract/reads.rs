//! Get, list, pages, and the shapes that printers and caches ask for.

use serde_json::{Value, json};

use super::Contract;
use crate::client::expect;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const PARTIAL_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

impl Contract<'_> {
    pub(super) async fn read(&self) {
        let got = self.current().await;
        let by_name = format!("{}?fieldSelector=metadata.name%3D{}", self.path, self.name());
        for path in [&format!("{}?labelSelector=contract%3D1", self.path), &by_name, &self.everywhere()] {
            let list = expect(self.client.get(path).await, 200);
            assert_eq!(
                (&list["kind"], &list["apiVersion"]),
                (&json!(self.row.list_kind), &json!(self.row.api_version()))
            );
            let items = list["items"].as_array().unwrap();
            assert_eq!(items.len(), 1, "{path}: {list}");
            assert_eq!(items[0]["metadata"], got["metadata"]);
            // Items of typed lists leave out what the list says; custom objects are never typed.
            let kind = self.row.is_custom().then(|| json!(self.row.kind));
            assert_eq!(items[0].get("kind"), kind.as_ref());
        }
        let none = expect(self.client.get(&format!("{}?labelSelector=contract%3D2", self.path)).await, 200);
        assert_eq!(none["items"], json!([]));
        let missing = expect(self.client.get(&self.item_of("missing")).await, 404);
        assert_eq!((&missing["reason"], &missing["details"]["kind"]), (&json!("NotFound"), &json!(self.row.plural)));
    }

    /// The collection in all namespaces.
    fn everywhere(&self) -> String {
        let path = self.path.replace(&format!("/namespaces/{}", super::NAMESPACE), "");
        format!("{path}?labelSelector=contract%3D1")
    }

    /// Pages are complete, without repetition, and of one version.
    pub(super) async fn pages(&self) {
        let more = ["two", "three"].map(|name| self.another(name));
        for object in &more {
            expect(self.client.post(&self.path, object).await, 201);
        }
        let pages = format!("{}?labelSelector=contract%3D1&limit=2", self.path);
        let first = expect(self.client.get(&pages).await, 200);
        let token = first["metadata"]["continue"].as_str().expect("there is another page");
        let second = expect(self.client.get(&format!("{pages}&continue={token}")).await, 200);
        assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        // Lists of custom resources always say how they continue.
        assert_eq!(second["metadata"].get("continue"), self.row.is_custom().then_some(&Value::from("")));
        // The server itself may write meanwhile: it says of APIServices whether they are available.
        let version = first["metadata"]["resourceVersion"].as_str().unwrap();
        let then = format!("resourceVersion={version}&resourceVersionMatch=Exact");
        let whole = expect(self.client.get(&format!("{}?labelSelector=contract%3D1&{then}", self.path)).await, 200);
        let paged: Vec<Value> =
            [&first, &second].into_iter().flat_map(|page| page["items"].as_array().unwrap().clone()).collect();
        assert_eq!(paged.len(), 3);
        assert_eq!(&paged, whole["items"].as_array().unwrap());
        for object in &more {
            self.remove(object["metadata"]["name"].as_str().unwrap()).await;
        }
    }

    /// Rows have a cell for each column; metadata comes without the rest.
    pub(super) async fn shapes(&self) {
        for path in [&self.path, &self.item()] {
            let table = expect(self.client.get_as(path, TABLE).await, 200);
            // Upstream prints the age of an IPAddress without a column for it.
            let extra = usize::from(self.row.plural == "ipaddresses");
            let columns = table["columnDefinitions"].as_array().unwrap().len() + extra;
            let rows = table["rows"].as_array().unwrap();
            assert!(!rows.is_empty(), "{table}");
            assert!(rows.iter().all(|row| row["cells"].as_array().unwrap().len() == columns), "{table}");
            assert!(rows.iter().all(|row| row["object"]["kind"] == "PartialObjectMetadata"), "{table}");
        }
        let (mut got, partial) = (self.current().await, expect(self.client.get_as(&self.item(), PARTIAL).await, 200));
        remove_what_versions_annotate(&mut got["metadata"]);
        let expected =
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": got["metadata"]});
        assert_eq!(partial, expected);
        let list = expect(self.client.get_as(&self.path, PARTIAL_LIST).await, 200);
        assert_eq!(list["kind"], "PartialObjectMetadataList");
        let items = list["items"].as_array().unwrap();
        assert!(items.iter().any(|item| item["metadata"] == got["metadata"]), "{list}");
    }
}

/// Some versions show a field of the object as an annotation; it is none of its metadata.
fn remove_what_versions_annotate(metadata: &mut Value) {
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    annotations.remove("deprecated.daemonset.template.generation");
    if annotations.is_empty() {
        metadata.as_object_mut().unwrap().remove("annotations");
    }
}
