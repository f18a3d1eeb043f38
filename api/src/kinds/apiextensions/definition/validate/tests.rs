use super::*;
use serde_json::json;

/// A definition that is right, with some fields of its only version and of its spec replaced.
fn definition_of(version: &Value, spec: &Value) -> Value {
    let mut one = json!({"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}}});
    one.as_object_mut().unwrap().extend(version.as_object().unwrap().clone());
    let names = json!({"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"});
    let mut whole = json!({"group": "example.com", "scope": "Namespaced", "names": names, "versions": [one],
        "conversion": {"strategy": "None"}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"metadata": {"name": "foos.example.com"}, "spec": whole, "status": {"storedVersions": ["v1"]}})
}

fn found(definition: &Value) -> Vec<String> {
    let mut errors = Errors::default();
    super::definition(&Node::root(definition.as_object().unwrap()), &mut errors);
    errors.0.iter().map(ToString::to_string).collect()
}

fn of_version(version: Value) -> Vec<String> {
    found(&definition_of(&version, &json!({})))
}

fn of_spec(spec: Value) -> Vec<String> {
    found(&definition_of(&json!({}), &spec))
}

#[test]
fn what_all_versions_share_is_wrong_above_them() {
    assert_eq!(of_version(json!({})), Vec::<String>::new());
    let column = json!({"type": "text", "format": "hex", "jsonPath": "spec"});
    let want = [
        "spec.additionalPrinterColumns[0].name: Required value",
        "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
        "spec.additionalPrinterColumns[0].format: Invalid value: \"hex\": must be one of \
         byte,date,date-time,double,float,int32,int64,password",
        "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"spec\": must be a simple json path starting with .",
    ];
    assert_eq!(of_version(json!({"additionalPrinterColumns": [column]})), want);
    let scale = json!({"specReplicasPath": "spec.n", "statusReplicasPath": ".spec.n"});
    let want = [
        "spec.subresources.scale.specReplicasPath: Invalid value: \"spec.n\": must be a simple json path starting with .",
        "spec.subresources.scale.statusReplicasPath: Invalid value: \".spec.n\": should be a json path under .status",
    ];
    assert_eq!(of_version(json!({"subresources": {"scale": scale}})), want);
    let want =
        ["spec.selectableFields[0].jsonPath: Invalid value: \".metadata.name\": must not point to fields in metadata"];
    let wrong = of_version(json!({"selectableFields": [{"jsonPath": ".metadata.name"}]}));
    assert_eq!(wrong[..1], want);
}

#[test]
fn what_only_one_version_says_is_wrong_there() {
    let mut definition = definition_of(&json!({}), &json!({}));
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["storage"] = false.into();
    second["additionalPrinterColumns"] = json!([{"name": "n", "jsonPath": ".spec.n"}]);
    definition["spec"]["versions"].as_array_mut().unwrap().push(second);
    let want = "spec.versions[1].additionalPrinterColumns[0].type: Required value: must be one of \
                boolean,date,integer,number,string";
    assert_eq!(found(&definition), [want]);
}

#[test]
fn a_status_split_off_loses_nothing() {
    let open = json!({"type": "object", "anyOf": [{"required": ["spec"]}], "properties": {"spec": {"type": "object"}}});
    let version = json!({"schema": {"openAPIV3Schema": open}, "subresources": {"status": {}}});
    let wrong = of_version(version);
    assert!(wrong[0].starts_with("spec.validation.openAPIV3Schema: Invalid value: "), "{wrong:?}");
    assert!(wrong[0].ends_with("at the root of the schema if the status subresource is enabled"), "{wrong:?}");
    let version = json!({"schema": {"openAPIV3Schema": {"type": "object", "nullable": true}}});
    assert_eq!(
        of_version(version),
        ["spec.validation.openAPIV3Schema.nullable: Forbidden: nullable cannot be true at the root"]
    );
}

#[test]
fn names_and_warnings_are_what_clients_can_read() {
    let names = json!({"plural": "foos", "kind": "Foo", "listKind": "Foo", "shortNames": ["F"]});
    let wrong = of_spec(json!({ "names": names }));
    assert_eq!(wrong[0], "spec.names.singular: Required value");
    assert!(wrong[1].starts_with("spec.names.shortNames[0]: Invalid value: \"F\": a DNS-1035 label must"), "{wrong:?}");
    assert_eq!(wrong[2..], ["spec.names.listKind: Invalid value: \"Foo\": kind and listKind may not be the same"]);
    for (version, why) in [
        (json!({"deprecationWarning": "x"}), "\"x\": can only be set for deprecated versions"),
        (json!({"deprecated": true, "deprecationWarning": ""}), "\"\": must not be an empty string"),
        (
            json!({"deprecated": true, "deprecationWarning": "a\tb"}),
            "\"a\\tb\": must only contain printable UTF-8 characters; non-printable character found at index 1",
        ),
    ] {
        assert_eq!(of_version(version), [format!("spec.versions[0].deprecationWarning: Invalid value: {why}")]);
    }
}

#[test]
fn a_conversion_webhook_can_be_reached() {
    let webhook = json!({"clientConfig": {"url": "http://a/b"}, "conversionReviewVersions": ["v1", "v1", "v2"]});
    let want = [
        "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired \
         format: https://host[/path]",
        "spec.conversion.conversionReviewVersions[1]: Invalid value: \"v1\": duplicate version",
    ];
    assert_eq!(of_spec(json!({"conversion": {"strategy": "Webhook", "webhook": webhook}})), want);
    let why = "Forbidden: should not be set when strategy is not set to Webhook";
    let want = [
        format!("spec.conversion.webhookClientConfig: {why}"),
        format!("spec.conversion.conversionReviewVersions: {why}"),
    ];
    assert_eq!(of_spec(json!({"conversion": {"strategy": "None", "webhook": webhook}})), want);
    let want = [
        "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
        "spec.conversion.conversionReviewVersions: Required value",
    ];
    assert_eq!(of_spec(json!({"conversion": {"strategy": "Webhook"}})), want);
}

#[test]
fn an_approval_that_was_missing_may_go_on_missing() {
    let protected = |annotations: Value| {
        let mut definition = definition_of(&json!({}), &json!({"group": "x.k8s.io"}));
        definition["metadata"]["annotations"] = annotations;
        definition
    };
    let change = |new: &Value, old: &Value| {
        let mut errors = Errors::default();
        definition_change(&Node::root(new.as_object().unwrap()), &Node::root(old.as_object().unwrap()), &mut errors);
        errors.0.len()
    };
    let (missing, given) =
        (protected(json!({})), protected(json!({status::APPROVAL_ANNOTATION: "https://example.com/1"})));
    assert_eq!((change(&missing, &missing), change(&given, &missing), change(&missing, &given)), (0, 0, 1));
}
