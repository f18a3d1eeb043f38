//! The certificates that pods trust the API server by, as the ConfigMap `kube-root-ca.crt` (upstream: `rootcacertpublisher`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::PerNamespace;
use crate::descriptor::Descriptor;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "root-ca-certificate-publisher-controller",
    aliases: &["root-ca-cert-publisher"],
    start: |start| {
        let Some(certificates) = start.config.root_ca.clone() else { return Ok(()) };
        let controller = PerNamespace::new(start.context, wanted(certificates), with_certificates);
        start.drive("root-ca-certificate-publisher", controller, start.config.tuning.concurrent_syncs)
    },
};

const ROOT_CA: &str = "kube-root-ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
     internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes \
     clusters.",
);

fn wanted(certificates: String) -> ConfigMap {
    let (key, text) = DESCRIPTION;
    let metadata = ObjectMeta {
        name: Some(ROOT_CA.to_owned()),
        annotations: Some(BTreeMap::from([(key.to_owned(), text.to_owned())])),
        ..ObjectMeta::default()
    };
    let data = BTreeMap::from([("ca.crt".to_owned(), certificates)]);
    ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }
}

/// The data are the certificates and nothing else, and the description is there; labels and the like are left alone.
fn with_certificates(current: &ConfigMap, wanted: &ConfigMap) -> Option<ConfigMap> {
    let (key, text) = DESCRIPTION;
    let is_described = current.metadata.annotations.as_ref().is_some_and(|known| known.contains_key(key));
    let has_more = current.binary_data.as_ref().is_some_and(|data| !data.is_empty());
    if current.data == wanted.data && is_described && !has_more {
        return None;
    }
    let mut changed = ConfigMap { data: wanted.data.clone(), binary_data: None, ..current.clone() };
    changed.metadata.annotations.get_or_insert_default().insert(key.to_owned(), text.to_owned());
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_put_right_and_labels_are_left_alone() {
        let map = |key: &str, text: &str| Some(BTreeMap::from([(key.to_owned(), text.to_owned())]));
        let wanted = ConfigMap { data: map("ca.crt", "x"), ..ConfigMap::default() };
        let mut current = ConfigMap { data: map("ca.crt", "y"), ..ConfigMap::default() };
        current.metadata.labels = map("team", "blue");
        let changed = with_certificates(&current, &wanted).unwrap();
        assert_eq!((&changed.data, &changed.metadata.labels), (&wanted.data, &map("team", "blue")));
        assert!(changed.metadata.annotations.as_ref().unwrap().contains_key(DESCRIPTION.0));
        assert_eq!(with_certificates(&changed, &wanted), None);
        let mut more = changed;
        more.binary_data = Some(BTreeMap::from([("z".to_owned(), k8s_openapi::ByteString(vec![0]))]));
        assert_eq!(with_certificates(&more, &wanted).unwrap().binary_data, None);
    }
}
