//! Texts that warn of volumes whose drivers are gone, and of files in one volume that are in each other's way.

use std::collections::BTreeSet;

use serde_json::Value;

use super::claim_spec;
use crate::kinds::rules::tree::Node;

/// Drivers that are no more: their field, the name by which texts call it where that differs, and since when.
pub(crate) const GONE: [(&str, &str, &str); 9] = [
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// The volumes of a pod.
pub(crate) fn of_pod(volumes: &Node<'_, '_>, texts: &mut Vec<String>) {
    for volume in volumes.items() {
        for (field, shown, text) in GONE {
            if volume.field(field).is_set() {
                texts.push(format!("{}: {text}", volume.field(shown).path()));
            }
        }
        let ephemeral = volume.field("ephemeral");
        let template = ephemeral.field("volumeClaimTemplate");
        claim_spec::warn(&template.field("spec"), texts);
    }
    for volume in volumes.items() {
        overlaps(&volume, texts);
    }
}

/// Files of one volume whose paths are the same, or lie within each other.
fn overlaps(volume: &Node<'_, '_>, texts: &mut Vec<String>) {
    let name = volume.field("name").text();
    for (source, kind, names) in
        [("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName"), ("downwardAPI", "DownwardAPI", "")]
    {
        let source = volume.field(source);
        let what = if names.is_empty() { kind.to_owned() } else { format!("{kind} {:?}", source.field(names).text()) };
        let items = source.field("items");
        overlapping(&paths(&items), &format!("volume {name:?} ({what}): overlapping paths"), texts);
    }
    projected(&volume.field("projected"), name, texts);
}

fn projected(volume: &Node<'_, '_>, name: &str, texts: &mut Vec<String>) {
    let (mut taken, mut what) = (Vec::new(), String::new());
    let mut all: BTreeSet<&str> = BTreeSet::new();
    for source in volume.field("sources").items() {
        if source.map().is_none_or(|fields| fields.values().all(Value::is_null)) {
            texts.push(format!("volume {name:?} (Projected) has no sources provided"));
            continue;
        }
        // A source that names no paths counts as the one before it, as upstream has it.
        if let Some((paths, kind)) = projection(&source) {
            taken = paths;
            what = format!("volume {name:?} (Projected {kind}): overlapping paths");
        }
        if taken.is_empty() {
            continue;
        }
        overlapping(&taken, &what, texts);
        let own: BTreeSet<&str> = taken.iter().copied().collect();
        let mut together: Vec<&str> = own.iter().chain(&all).copied().collect();
        together.sort_unstable();
        overlapping(&together, &what, texts);
        all.extend(own);
    }
}

/// The paths of a projected source, and what it is called.
fn projection<'v>(source: &Node<'_, 'v>) -> Option<(Vec<&'v str>, String)> {
    for (key, kind) in [("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", "DownwardAPI")] {
        let part = source.field(key);
        let items = part.field("items");
        if items.is_set() {
            let shown =
                if key == "downwardAPI" { kind.to_owned() } else { format!("{kind} {:?}", part.field("name").text()) };
            return Some((paths(&items), shown));
        }
    }
    let token = source.field("serviceAccountToken");
    if token.is_set() {
        return Some((vec![token.field("path").text()], "ServiceAccountToken".to_owned()));
    }
    let bundle = source.field("clusterTrustBundle");
    let name = [bundle.field("name"), bundle.field("signerName")].iter().find(|name| name.is_set()).map(Node::text)?;
    Some((vec![bundle.field("path").text()], format!("ClusterTrustBundle {name:?}")))
}

fn paths<'v>(items: &Node<'_, 'v>) -> Vec<&'v str> {
    items.list().iter().map(|item| item.get("path").and_then(Value::as_str).unwrap_or("")).collect()
}

fn overlapping(paths: &[&str], what: &str, texts: &mut Vec<String>) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for path in paths.iter().map(|path| path.trim_end_matches('/')) {
        if let Some(other) = collision(&seen, path) {
            texts.push(format!("{what}: {path:?} with {other:?}"));
        }
        seen.insert(path);
    }
}

/// The path that this one is, contains, or is contained in.
fn collision<'p>(seen: &BTreeSet<&'p str>, path: &str) -> Option<&'p str> {
    if path.is_empty() || seen.contains("") {
        return None;
    }
    let within = |inner: &str, outer: &str| format!("{inner}/").starts_with(outer);
    seen.iter().copied().find(|other| *other == path || within(other, path) || within(path, other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(volume: &Value, want: &[&str]) {
        let spec = json!({"volumes": [volume]});
        let mut texts = Vec::new();
        of_pod(&Node::root(spec.as_object().expect("an object")).field("volumes"), &mut texts);
        assert_eq!(texts, want);
    }

    #[test]
    fn drivers_that_are_gone_are_told() {
        check(&json!({"storageos": {}}), &["volumes[0].storageOS: deprecated in v1.22, non-functional in v1.25+"]);
        check(&json!({"gitRepo": {}}), &["volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"]);
        check(&json!({"emptyDir": {}}), &[]);
    }

    #[test]
    fn files_that_are_in_each_others_way_are_told() {
        let items = |paths: &[&str]| Value::from(paths.iter().map(|path| json!({"path": path})).collect::<Vec<_>>());
        check(
            &json!({"name": "v", "configMap": {"name": "c", "items": items(&["a", "b", "a/c"])}}),
            &["volume \"v\" (ConfigMap \"c\"): overlapping paths: \"a/c\" with \"a\""],
        );
        check(&json!({"name": "v", "secret": {"secretName": "s", "items": items(&["a", "b"])}}), &[]);
        check(
            &json!({"name": "v", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "c", "items": items(&["token"])}}, {}]}}),
            &[
                "volume \"v\" (Projected ConfigMap \"c\"): overlapping paths: \"token\" with \"token\"",
                "volume \"v\" (Projected) has no sources provided",
            ],
        );
    }
}
