use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::catalog::Catalog;

fn resource(group: &str, version: &str, kind: &str) -> std::sync::Arc<Resource> {
    Catalog::builtin().kind(group, version, kind).cloned().unwrap_or_else(|| panic!("{kind} is served"))
}

fn decode_as(kind: (&str, &str, &str), body: &str, validation: FieldValidation) -> Result<Decoded, ApiError> {
    decode(body.as_bytes(), Media::Json, &Target::of(&resource(kind.0, kind.1, kind.2)), validation)
}

const CONFIG_MAP: (&str, &str, &str) = ("", "v1", "ConfigMap");
const POD: (&str, &str, &str) = ("", "v1", "Pod");
const DEPLOYMENT: (&str, &str, &str) = ("apps", "v1", "Deployment");

#[test]
fn wrong_types_are_refused_in_gos_words() {
    let cases = [
        (
            CONFIG_MAP,
            r#"{"data":{"a":5}}"#,
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        (
            CONFIG_MAP,
            r#"{"data":["x"]}"#,
            "json: cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string",
        ),
        (
            CONFIG_MAP,
            r#"{"metadata":"x"}"#,
            "json: cannot unmarshal string into Go struct field ConfigMap.metadata of type v1.ObjectMeta",
        ),
        (
            CONFIG_MAP,
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            DEPLOYMENT,
            r#"{"spec":{"replicas":"x"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            r#"{"spec":{"replicas":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            POD,
            r#"{"spec":{"volumes":[{"emptyDir":5}]}}"#,
            "json: cannot unmarshal number into Go struct field Volume.spec.volumes.VolumeSource.emptyDir of type v1.EmptyDirVolumeSource",
        ),
        (
            POD,
            r#"{"spec":{"ephemeralContainers":[{"name":5}]}}"#,
            "json: cannot unmarshal number into Go struct field EphemeralContainer.spec.ephemeralContainers.EphemeralContainerCommon.name of type string",
        ),
        (
            POD,
            r#"{"spec":{"containers":[{"livenessProbe":{"httpGet":5},"name":"a"}]}}"#,
            "json: cannot unmarshal number into Go struct field Probe.spec.containers.livenessProbe.ProbeHandler.httpGet of type v1.HTTPGetAction",
        ),
        (
            POD,
            r#"{"spec":{"containers":[{"securityContext":{"capabilities":{"add":5}}}]}}"#,
            "json: cannot unmarshal number into Go struct field Capabilities.spec.containers.securityContext.capabilities.add of type []v1.Capability",
        ),
        (
            POD,
            r#"{"spec":{"containers":[{"securityContext":{"capabilities":{"add":[5]}}}]}}"#,
            "json: cannot unmarshal number into Go struct field Capabilities.spec.containers.securityContext.capabilities.add of type v1.Capability",
        ),
        (
            POD,
            r#"{"spec":{"restartPolicy":5}}"#,
            "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
        ),
        (
            ("networking.k8s.io", "v1", "Ingress"),
            r#"{"spec":{"rules":[{"http":{"paths":5}}]}}"#,
            "json: cannot unmarshal number into Go struct field HTTPIngressRuleValue.spec.rules.IngressRuleValue.http.paths of type []v1.HTTPIngressPath",
        ),
        (
            ("", "v1", "PersistentVolume"),
            r#"{"spec":{"nfs":5}}"#,
            "json: cannot unmarshal number into Go struct field PersistentVolumeSpec.spec.PersistentVolumeSource.nfs of type v1.NFSVolumeSource",
        ),
        (
            ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration"),
            r#"{"webhooks":[{"rules":[{"apiGroups":5}]}]}"#,
            "json: cannot unmarshal number into Go struct field RuleWithOperations.webhooks.rules.Rule.apiGroups of type []string",
        ),
    ];
    for (kind, body, why) in cases {
        let error = decode_as(kind, body, FieldValidation::Warn).expect_err(body);
        let name = kind.2;
        assert_eq!(error.to_string(), format!("{name} in version \"v1\" cannot be handled as a {name}: {why}"));
    }
}

#[test]
fn keys_that_yaml_gives_twice_are_warned_of_one_by_one() {
    let text = "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: b\n  a: c\n  d: e\n  d: f\n";
    let read = |validation| {
        let resource = resource(CONFIG_MAP.0, CONFIG_MAP.1, CONFIG_MAP.2);
        decode(text.as_bytes(), Media::Yaml, &Target::of(&resource), validation)
    };
    let (first, second) = ("line 5: key \"a\" already set in map", "line 7: key \"d\" already set in map");
    assert_eq!(read(FieldValidation::Warn).expect("warned only").warnings, [first, second]);
    assert_eq!(read(FieldValidation::Ignore).expect("ignored").warnings, Vec::<String>::new());
    let refused = read(FieldValidation::Strict).expect_err("given twice").to_string();
    assert!(
        refused.ends_with(&format!("strict decoding error: yaml: unmarshal errors:\n  {first}\n  {second}")),
        "{refused}"
    );
}

#[test]
fn unknown_and_duplicate_fields_are_told_in_the_order_of_the_text() {
    let body = r#"{"metadata":{"name":"a","name":"b"},"spec":{"replica":2,"template":{"spec":{"containers":[{"name":"c","foo":1}]}}},"more":1}"#;
    let found = [
        "duplicate field \"metadata.name\"",
        "unknown field \"spec.replica\"",
        "unknown field \"spec.template.spec.containers[0].foo\"",
        "unknown field \"more\"",
    ];
    let decoded = decode_as(DEPLOYMENT, body, FieldValidation::Warn).expect("warned only");
    assert_eq!(decoded.warnings, found);
    assert_eq!(decoded.object.name(), "b");
    assert_eq!(decoded.object.get(&["spec", "replica"]), None);
    let error = decode_as(DEPLOYMENT, body, FieldValidation::Strict).expect_err("strict");
    assert!(error.to_string().ends_with(&format!("strict decoding error: {}", found.join(", "))), "{error}");
    assert_eq!(decode_as(DEPLOYMENT, body, FieldValidation::Ignore).expect("ignored").warnings, Vec::<String>::new());
}

#[test]
fn objects_are_canonical() {
    let body = r#"{"metadata":{"name":"a","labels":null,"annotations":{},"creationTimestamp":null},
        "spec":{"containers":[{"name":"c","image":"","command":[],"resources":{"limits":{"cpu":1.5,"memory":"1024Ki"}}}],
        "hostNetwork":false,"securityContext":{},"automountServiceAccountToken":false}}"#;
    let decoded = decode_as(("", "v1", "Pod"), body, FieldValidation::Strict).expect("fine");
    let want = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {"automountServiceAccountToken": false, "securityContext": {}, "containers": [
            {"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "1Mi"}}}]},
        "status": {},
    });
    assert_eq!(decoded.object.to_value(), want);
}

#[test]
fn fields_that_are_always_printed_appear() {
    let decoded =
        decode_as(("", "v1", "Service"), r#"{"spec":{"ports":[{"port":80}]}}"#, FieldValidation::Warn).expect("fine");
    let want = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {}, "status": {"loadBalancer": {}},
        "spec": {"ports": [{"port": 80, "targetPort": 0}]},
    });
    assert_eq!(decoded.object.to_value(), want);
}

#[test]
fn bodies_of_another_kind_are_refused() {
    let cases = [
        (
            r#"{"apiVersion":"v1","kind":"Endpoints"}"#,
            r#"Endpoints in version "v1" cannot be handled as a ConfigMap: converting (v1.Endpoints) to (core.ConfigMap): unknown conversion"#,
        ),
        (
            r#"{"apiVersion":"v9","kind":"ConfigMap"}"#,
            r#"ConfigMap in version "v9" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for version "v9" in scheme "pkg/api/legacyscheme/scheme.go:30""#,
        ),
        (
            r#"{"apiVersion":"a/b/c","kind":"ConfigMap"}"#,
            r#"the object provided is unrecognized (must be of type ConfigMap): unexpected GroupVersion string: a/b/c ({"apiVersion":"a/b/c","kind":" ...)"#,
        ),
        (
            "",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)",
        ),
    ];
    for (body, want) in cases {
        assert_eq!(decode_as(CONFIG_MAP, body, FieldValidation::Warn).expect_err(body).to_string(), want);
    }
}

#[test]
fn another_version_of_the_kind_does_not_match() {
    let error = decode_as(
        ("autoscaling", "v2", "HorizontalPodAutoscaler"),
        r#"{"apiVersion":"autoscaling/v1"}"#,
        FieldValidation::Warn,
    );
    let want = "the API version in the data (autoscaling/v1) does not match the expected API version (autoscaling/v2)";
    assert_eq!(error.expect_err("another version").to_string(), want);
}

fn reference() -> Option<PathBuf> {
    let root = std::env::var_os("CORACLE_REFERENCE").map_or_else(|| PathBuf::from("../../shared"), PathBuf::from);
    if !root.join("golden/cases").is_dir() {
        eprintln!("SKIP: no reference files at {}", root.display());
        return None;
    }
    Some(root)
}

fn read_json(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON")
}

/// Calls `look` with every whole object in an answer of the reference.
fn each_object<'v>(value: &'v Value, look: &mut dyn FnMut(&'v Value)) {
    match value {
        Value::Array(list) => list.iter().for_each(|inner| each_object(inner, look)),
        Value::Object(map) => {
            let typed = map.contains_key("apiVersion") && map.get("metadata").is_some_and(|m| m.get("uid").is_some());
            if typed { look(value) } else { map.values().for_each(|inner| each_object(inner, look)) }
        }
        _ => {}
    }
}

#[test]
fn what_is_clean_reads_as_itself() {
    let schema = builtin().kind("", "v1", "Pod").unwrap();
    let pod =
        |spec: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": "b"}}, "spec": spec});
    let container = |fields: Value| pod(json!({"containers": [fields]}));
    let cases = [
        (
            container(
                json!({"name": "c", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1500m"}}}),
            ),
            true,
        ),
        (
            pod(
                json!({"hostNetwork": true, "priority": -1, "tolerations": [{"tolerationSeconds": 4_000_000_000_i64}]}),
            ),
            true,
        ),
        (
            json!({"metadata": {"creationTimestamp": "2024-01-02T03:04:05Z", "managedFields": [{"fieldsV1": {"f:a": {}}}]}}),
            true,
        ),
        (json!({"metadata": {"creationTimestamp": "2024-01-02T03:04:05+01:00"}}), false),
        (json!({"metadata": {"labels": {"a": 1}}}), false),
        (json!({"metadata": {"labels": null}}), false),
        (container(json!({"name": "c", "resources": {"limits": {"cpu": "1.5"}}})), false),
        (container(json!({"name": "c", "resources": {"limits": {"cpu": 1}}})), false),
        (container(json!({"livenessProbe": {"httpGet": {"port": "web"}}})), true),
        (container(json!({"livenessProbe": {"httpGet": {"port": 1.5}}})), false),
        (container(json!({"ports": [{"containerPort": 4_000_000_000_i64}]})), false),
        (container(json!({"nmae": "c"})), false),
        (container(json!(null)), false),
        (pod(json!({"containers": {}})), false),
        (pod(json!({"hostNetwork": "yes"})), false),
    ];
    for (document, clean) in cases {
        let map = document.as_object().unwrap();
        assert_eq!(read::is_clean(map, schema, json::MAX_DEPTH), clean, "{document}");
        let (read, findings) = read::read(Node::from(document.clone()), schema, true, Words::Json);
        if clean {
            assert_eq!(&read, map);
            assert!(findings.strict.is_empty() && findings.error.is_none(), "{findings:?}");
        }
    }
    let mut deep = json!({});
    (0..json::MAX_DEPTH).for_each(|_| deep = json!([deep.take()]));
    let deep = json!({"metadata": {"managedFields": [{"fieldsV1": deep}]}});
    assert!(!read::is_clean(deep.as_object().unwrap(), schema, json::MAX_DEPTH));
}

#[test]
fn the_references_answers_are_already_canonical() {
    let Some(root) = reference() else { return };
    let mut seen = 0;
    let mut wrong = Vec::new();
    for file in std::fs::read_dir(root.join("golden/cases")).expect("readable").flatten() {
        let cases = read_json(&file.path());
        for step in cases
            .pointer("/cases")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .flat_map(|case| case["steps"].as_array().into_iter().flatten())
        {
            if !step["select"].is_null() {
                continue;
            }
            each_object(&step["expect"], &mut |value| {
                let object = Object::from_value(value.clone()).expect("an object");
                let Some((group, version)) = split_api_version(object.api_version()) else { return };
                let Some(schema) = builtin().kind(group, version, object.kind()) else { return };
                let mut canonical = object.clone();
                canonicalize(&mut canonical, schema);
                seen += 1;
                if canonical != object {
                    wrong.push(format!("{}: {value}\n  became {}", step["name"], canonical.to_value()));
                }
            });
        }
    }
    assert!(seen > 2000, "only {seen} objects were found");
    assert!(wrong.is_empty(), "{} of {seen} changed:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
}

#[test]
fn every_kind_of_the_reference_is_read_without_findings() {
    let Some(root) = reference() else { return };
    let mut seen = 0;
    for file in std::fs::read_dir(root.join("reference/api-roundtrip")).expect("readable").flatten() {
        if file.path().extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let value = read_json(&file.path());
        let object = Object::from_value(value.clone()).expect("an object");
        let Some((group, version)) = split_api_version(object.api_version()) else { continue };
        let Some(target) = Target::builtin(group, version, object.kind()) else { continue };
        seen += 1;
        match decode_value(value.clone(), &target, FieldValidation::Strict) {
            Ok(decoded) => assert_eq!(decoded.object, object, "{:?}", file.path()),
            Err(error) => panic!("{:?}: {error}", file.path()),
        }
    }
    assert!(seen > 80, "only {seen} kinds were found");
}

#[test]
fn a_patched_document_must_stay_of_its_kind() {
    let resource = resource("", "v1", "ConfigMap");
    let cases = [
        (json!({"kind": "ConfigMap", "apiVersion": "v1"}), None),
        (json!({"metadata": {"name": "x"}}), None),
        (json!({"kind": "Other", "apiVersion": "v1"}), Some("no kind \"Other\" is registered for version \"v1\"")),
        (
            json!({"kind": "ConfigMap", "apiVersion": "v9"}),
            Some("no kind \"ConfigMap\" is registered for version \"v9\""),
        ),
        (json!({"kind": "Pod", "apiVersion": "v1"}), Some("converting (v1.Pod) to (core.ConfigMap)")),
        (json!({"kind": "ConfigMap", "apiVersion": "a/b/c"}), Some("unexpected GroupVersion string: a/b/c")),
    ];
    for (document, want) in cases {
        let refused = decode_patched(document.clone(), &Target::of(&resource), FieldValidation::Strict).err();
        let text = refused.map(|error| error.to_string());
        assert_eq!(text.is_some(), want.is_some(), "{document}: {text:?}");
        assert!(text.unwrap_or_default().starts_with(want.unwrap_or_default()), "{document}");
    }
}

#[test]
fn wrong_types_after_a_strategic_merge_have_words_of_their_own() {
    let resource = resource("apps", "v1", "Deployment");
    let cases = [
        (json!({"metadata": {"labels": "x"}}), "cannot restore map from string"),
        (json!({"spec": []}), "cannot restore struct from: slice"),
        (json!({"spec": {"template": {"spec": {"containers": {}}}}}), "cannot restore slice from map"),
        (json!({"metadata": {"name": 5}}), "cannot convert int64 to string"),
        (json!({"metadata": {"name": true}}), "unrecognized type: string"),
        (json!({"spec": {"replicas": "1"}}), "unrecognized type: int32"),
        (json!({"spec": {"replicas": 1.5}}), "cannot convert float64 to int32"),
        (json!({"spec": {"paused": 1}}), "unrecognized type: bool"),
    ];
    for (document, want) in cases {
        let refused = decode_merged(document.clone(), &Target::of(&resource), FieldValidation::Ignore);
        assert_eq!(refused.err().map(|error| error.to_string()).as_deref(), Some(want), "{document}");
    }
}

#[test]
fn options_are_read_in_the_version_of_any_group() {
    let target = Target::options("DeleteOptions").expect("built in");
    for version in ["v1", "meta.k8s.io/v1", "apps/v1", "example.com/v1"] {
        let body = format!(r#"{{"kind":"DeleteOptions","apiVersion":"{version}","dryRun":["All"],"unknown":1}}"#);
        let read = decode_options(body.as_bytes(), Media::Json, &target).expect("fine");
        assert_eq!(read.get(&["dryRun"]), Some(&json!(["All"])), "{version}");
    }
    for body in [r#"{"kind":"Pod","apiVersion":"v1"}"#, "{", "[]", r#"{"dryRun":"All"}"#] {
        assert_eq!(decode_options(body.as_bytes(), Media::Json, &target).expect_err(body).code(), 400);
    }
}

#[test]
fn recorded_bodies_are_refused_as_recorded() {
    let Some(root) = reference() else { return };
    let mut seen = 0;
    let mut wrong = Vec::new();
    for file in ["requests.json", "validation.json", "defaulting.json"] {
        let text = std::fs::read(root.join("golden/cases").join(file)).expect("readable");
        let cases = json::parse(&text).expect("JSON");
        for step in elements(cases.get("cases")).flat_map(|case| elements(case.get("steps"))) {
            let Some(outcome) = replay(step) else { continue };
            seen += 1;
            let expect = step.get("expect").expect("every step expects something").clone().into_value();
            let message = expect["body"]["message"].as_str().unwrap_or("");
            // That one compares body and URL, which the codec does not know.
            let refused = expect["status"] == 400 && !message.contains("does not match the namespace");
            let got = outcome.as_ref().err().map_or("", |error| error.status().message.as_str());
            if refused != outcome.is_err() || (refused && got != message) {
                wrong.push(format!("{file} {:?}: expected {message:?}, got {got:?}", step.get("name")));
            }
        }
    }
    assert!(seen > 500, "only {seen} requests were found");
    assert!(wrong.is_empty(), "{} of {seen}:\n{}", wrong.len(), wrong.join("\n"));
}

fn elements<'n, 'a>(list: Option<&'n Node<'a>>) -> impl Iterator<Item = &'n Node<'a>> {
    match list {
        Some(Node::Array(list)) => list.as_slice(),
        _ => &[],
    }
    .iter()
}

fn text<'n>(node: Option<&'n Node<'_>>) -> Option<&'n str> {
    match node {
        Some(Node::String(text)) => Some(text),
        _ => None,
    }
}

/// Decodes the body of a recorded create; `None` for what is not one.
fn replay(step: &Node<'_>) -> Option<Result<Decoded, ApiError>> {
    let request = step.get("request")?;
    if text(request.get("method")) != Some("POST") {
        return None;
    }
    let url = text(request.get("path"))?;
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let media = match request.get("headers").and_then(|headers| text(headers.get("Content-Type"))) {
        None | Some("application/json") => Media::Json,
        Some("application/yaml") => Media::Yaml,
        Some(_) => return None,
    };
    let mut parts = path.trim_start_matches('/').split('/');
    let (group, version) = match parts.next()? {
        "api" => ("", parts.next()?),
        "apis" => (parts.next()?, parts.next()?),
        _ => return None,
    };
    let rest: Vec<&str> = parts.collect();
    let plural = match rest.as_slice() {
        ["namespaces", _, plural] | [plural] => plural,
        _ => return None,
    };
    let catalog = Catalog::builtin();
    let resource = catalog.resource(group, version, plural)?;
    let body = match (text(request.get("raw")), request.get("body")) {
        (Some(raw), _) => raw.to_owned(),
        (None, Some(body @ Node::Object(_))) if body.get("$use").is_none() => print(body),
        _ => return None,
    };
    let validation = query.split('&').find_map(|pair| pair.strip_prefix("fieldValidation=")).unwrap_or("");
    let validation = FieldValidation::from_name(validation)?;
    if query.contains("dryRun=None") {
        return None;
    }
    Some(decode(body.as_bytes(), media, &Target::of(resource), validation))
}

/// The document in its own order.
fn print(node: &Node<'_>) -> String {
    match node {
        Node::Array(list) => format!("[{}]", list.iter().map(print).collect::<Vec<_>>().join(",")),
        Node::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{}:{}", json!(name), print(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        other => other.clone().into_value().to_string(),
    }
}

proptest! {
    #[test]
    fn canonical_form_is_stable(
        replicas in prop::option::of(any::<i32>()),
        cpu in prop::option::of("[0-9]{1,4}(\\.[0-9]{1,3})?(m|k|Mi)?"),
        labels in prop::collection::btree_map("[a-z]{1,5}", "[a-z]{0,5}", 0..4),
        paused in any::<bool>(),
    ) {
        let body = json!({
            "metadata": {"name": "a", "labels": labels},
            "spec": {"replicas": replicas, "paused": paused, "template": {"spec": {"containers": [
                {"name": "c", "resources": {"limits": cpu.map(|cpu| json!({"cpu": cpu}))}}]}}},
        });
        let resource = resource("apps", "v1", "Deployment");
        let decoded = decode_value(body, &Target::of(&resource), FieldValidation::Strict).expect("fine");
        let mut again = decoded.object.clone();
        canonicalize(&mut again, resource.schema());
        prop_assert_eq!(&again, &decoded.object);
        let read = decode_value(again.to_value(), &Target::of(&resource), FieldValidation::Strict).expect("fine");
        prop_assert_eq!(read.object, again);
    }

    #[test]
    fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..80), yaml in any::<bool>()) {
        let resource = resource("", "v1", "Pod");
        let media = if yaml { Media::Yaml } else { Media::Json };
        let _ = decode(&body, media, &Target::of(&resource), FieldValidation::Strict);
    }
}
