//! Admission policies: expressions that refuse requests or change them.

use apiserver::testing::TestServer;
use serde_json::{Value, json};

use crate::client::{APPLY, Answer, Client, MERGE, expect};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A server under test and its administrator.
struct Stage {
    server: TestServer,
    client: Client,
}

impl Stage {
    async fn new() -> Self {
        let server = TestServer::start().await;
        Self { client: Client::admin(&server), server }
    }

    /// Makes a policy about ConfigMaps and its binding.
    async fn policy(&self, kind: &str, spec: Value, binding: Value) {
        self.policy_on(("", "configmaps"), kind, spec, binding).await;
    }

    /// Makes a policy about resources of a group, and its binding.
    async fn policy_on(&self, (group, plural): (&str, &str), kind: &str, spec: Value, binding: Value) {
        // What is deleted cannot be changed.
        let operations =
            if kind == "mutating" { &["CREATE", "UPDATE"][..] } else { &["CREATE", "UPDATE", "DELETE"][..] };
        let rules =
            json!([{"apiGroups": [group], "apiVersions": ["v1"], "operations": operations, "resources": [plural]}]);
        let mut spec = spec;
        spec["matchConstraints"] = json!({"resourceRules": rules});
        self.make(&format!("{GROUP}/{kind}admissionpolicies"), json!({"metadata": {"name": "p"}, "spec": spec})).await;
        let mut binding = binding;
        binding["policyName"] = "p".into();
        let path = format!("{GROUP}/{kind}admissionpolicybindings");
        self.make(&path, json!({"metadata": {"name": "b"}, "spec": binding})).await;
        self.settle().await;
    }

    async fn make(&self, path: &str, body: Value) -> Value {
        expect(self.client.post(path, &body).await, 201)
    }

    async fn settle(&self) {
        self.server.server().registry().freshen().await.unwrap();
    }

    async fn map(&self, name: &str, data: Value) -> Answer {
        self.client.post(MAPS, &json!({"metadata": {"name": name}, "data": data})).await
    }
}

fn deny_all() -> Value {
    json!({"validationActions": ["Deny"]})
}

fn refused(answer: Answer, status: u16, why: &str) {
    let message = expect(answer, status)["message"].as_str().unwrap().to_owned();
    let want = format!("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: {why}");
    assert!(message.ends_with(&want), "{message}");
}

fn deployment(name: &str, replicas: i64) -> Value {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    json!({"metadata": {"name": name}, "spec": spec})
}

/// Conformance: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should validate against a Deployment [Conformance]
/// Conformance: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should allow expressions to refer variables. [Conformance]
#[tokio::test]
async fn deployments_are_validated_with_the_help_of_variables() {
    let stage = Stage::new().await;
    let spec = json!({
        "variables": [
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "odd", "expression": "variables.replicas % 2 == 1"},
        ],
        "validations": [
            {"expression": "variables.replicas > 1", "messageExpression": "'wants more than ' + string(variables.replicas)"},
            {"expression": "variables.odd"},
        ],
    });
    stage.policy_on(("apps", "deployments"), "validating", spec, deny_all()).await;
    refused(stage.client.post(DEPLOYMENTS, &deployment("a", 1)).await, 422, "wants more than 1");
    refused(stage.client.post(DEPLOYMENTS, &deployment("a", 2)).await, 422, "failed expression: variables.odd");
    expect(stage.client.post(DEPLOYMENTS, &deployment("a", 3)).await, 201);
}

/// Conformance: [sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment [Conformance]
/// Conformance: [sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment with annotations [Conformance]
#[tokio::test]
async fn deployments_are_changed_in_the_spec_and_in_annotations() {
    let stage = Stage::new().await;
    let expression = "Object{metadata: Object.metadata{annotations: {'by': 'policy'}}, \
                      spec: Object.spec{replicas: object.spec.replicas + 1}}";
    let spec = json!({
        "failurePolicy": "Fail", "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
    });
    stage.policy_on(("apps", "deployments"), "mutating", spec, json!({})).await;
    let made = expect(stage.client.post(DEPLOYMENTS, &deployment("a", 1)).await, 201);
    assert_eq!(made["spec"]["replicas"], 2);
    assert_eq!(made["metadata"]["annotations"], json!({"by": "policy"}));
}

#[tokio::test]
async fn what_a_policy_forbids_is_refused_in_its_own_words() {
    let stage = Stage::new().await;
    let spec = json!({
        "matchConditions": [{"name": "free", "expression": "!request.name.startsWith('free')"}],
        "variables": [
            {"name": "size", "expression": "has(object.data) ? size(object.data) : 0"},
            {"name": "twice", "expression": "variables.size * 2"},
        ],
        "validations": [
            {"expression": "request.operation == 'DELETE' || variables.twice > 1", "message": "too little"},
            {
                "expression": "request.operation != 'DELETE' || 'loose' in oldObject.data", "reason": "Forbidden",
                "messageExpression": "oldObject.metadata.name + ' stays in ' + namespaceObject.metadata.name",
            },
            {"expression": "request.operation == 'DELETE' || !has(object.data.n) || int(object.data.n) > 2"},
        ],
    });
    stage.policy("validating", spec, deny_all()).await;
    refused(stage.map("a", json!({})).await, 422, "too little");
    expect(stage.map("a", json!({"k": "v"})).await, 201);
    expect(stage.map("loose", json!({"loose": "v"})).await, 201);
    expect(stage.map("free", json!({})).await, 201);
    refused(stage.client.delete(&format!("{MAPS}/a")).await, 403, "a stays in default");
    expect(stage.client.delete(&format!("{MAPS}/loose")).await, 200);
    let number = |n: &str| json!({"data": {"n": n}});
    let third = "request.operation == 'DELETE' || !has(object.data.n) || int(object.data.n) > 2";
    let update = |n: &'static str| {
        let client = stage.client.clone();
        async move { client.patch(&format!("{MAPS}/a"), MERGE, &number(n)).await }
    };
    refused(update("1").await, 422, &format!("failed expression: {third}"));
    let why = format!("expression '{third}' resulted in error: type conversion error from 'string' to 'int'");
    refused(update("x").await, 422, &why);
    expect(update("3").await, 200);
}

#[tokio::test]
async fn a_policy_that_cannot_decide_lets_pass_if_it_says_so() {
    let stage = Stage::new().await;
    let spec = json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.data.none == 'x'"}]});
    stage.policy("validating", spec, deny_all()).await;
    expect(stage.map("a", json!({})).await, 201);
    expect(stage.map("b", json!({"none": "x"})).await, 201);
    refused(stage.map("c", json!({"none": "y"})).await, 422, "failed expression: object.data.none == 'x'");
}

#[tokio::test]
async fn policies_act_with_each_of_their_parameters() {
    let stage = Stage::new().await;
    let limits = |name: &str, most: &str| json!({"metadata": {"name": name, "labels": {"limits": "yes"}}, "data": {"most": most}});
    for (name, most) in [("small", "2"), ("large", "4")] {
        stage.make(MAPS, limits(name, most)).await;
    }
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "others", "expression": "!('limits' in object.metadata.?labels.orValue({}))"}],
        "validations": [{
            "expression": "size(object.data) <= int(params.data.most)",
            "messageExpression": "params.metadata.name + ' allows ' + params.data.most",
        }],
    });
    let selector = json!({"matchLabels": {"limits": "yes"}});
    let binding = json!({
        "validationActions": ["Deny"],
        "paramRef": {"selector": selector, "parameterNotFoundAction": "Deny", "namespace": "default"},
    });
    stage.policy("validating", spec, binding).await;
    expect(stage.map("a", json!({"1": "", "2": ""})).await, 201);
    refused(stage.map("b", json!({"1": "", "2": "", "3": ""})).await, 422, "small allows 2");
    let unlabelled = json!({"metadata": {"labels": null}});
    expect(stage.client.patch(&format!("{MAPS}/small"), MERGE, &unlabelled).await, 200);
    stage.settle().await;
    expect(stage.map("b", json!({"1": "", "2": "", "3": ""})).await, 201);
}

#[tokio::test]
async fn a_binding_without_its_parameters_denies_or_does_nothing() {
    for (action, status) in [("Deny", 422), ("Allow", 201)] {
        let stage = Stage::new().await;
        let spec = json!({
            "paramKind": {"apiVersion": "v1", "kind": "Secret"}, "validations": [{"expression": "params != null"}],
        });
        let params = json!({"name": "none", "namespace": "default", "parameterNotFoundAction": action});
        stage.policy("validating", spec, json!({"validationActions": ["Deny"], "paramRef": params})).await;
        let answer = stage.map("a", json!({})).await;
        if status == 422 {
            let why =
                "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
            refused(answer, status, why);
        } else {
            expect(answer, status);
        }
    }
}

#[tokio::test]
async fn expressions_can_ask_the_authorizer() {
    let stage = Stage::new().await;
    let spec = json!({"validations": [
        {"expression": "authorizer.requestResource.check('create').allowed()", "message": "the administrator may"},
        {
            "expression": "!authorizer.serviceAccount('default', 'nobody').group('').resource('secrets')\
                           .namespace('default').check('get').allowed()",
            "message": "nobody may not",
        },
        {"expression": "authorizer.path('/healthz').check('get').allowed()", "message": "health is public"},
    ]});
    stage.policy("validating", spec, deny_all()).await;
    expect(stage.map("a", json!({})).await, 201);
}

#[tokio::test]
async fn configurations_are_merged_and_patches_applied_in_turn() {
    let stage = Stage::new().await;
    let spec = json!({
        "reinvocationPolicy": "Never", "failurePolicy": "Fail",
        "variables": [{"name": "who", "expression": "request.userInfo.username"}],
        "mutations": [
            {
                "patchType": "ApplyConfiguration",
                "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: {'by': variables.who}}}"},
            },
            {
                "patchType": "JSONPatch",
                "jsonPatch": {"expression": "has(object.data) ? [JSONPatch{op: 'add', path: '/data/' + \
                    jsonpatch.escapeKey('a.b'), value: object.metadata.labels['by'] + '!'}] : []"},
            },
        ],
    });
    stage.policy("mutating", spec, json!({})).await;
    let made = expect(stage.map("a", json!({"k": "v"})).await, 201);
    assert_eq!(made["metadata"]["labels"], json!({"by": "test-admin"}));
    assert_eq!(made["data"], json!({"k": "v", "a.b": "test-admin!"}));
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {"x": "y"}}});
    let made = expect(stage.client.patch(&format!("{MAPS}/c?fieldManager=m"), APPLY, &applied).await, 201);
    assert_eq!(made["metadata"]["labels"], json!({"by": "test-admin", "x": "y"}));
}

/// Mutations that label with a name, fail, and label again; the last patch tests what is not so.
fn mutations(policy: Value) -> Value {
    let apply = |text: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}});
    let label = |name: &str| apply(&format!("Object{{metadata: Object.metadata{{labels: {{'{name}': ''}}}}}}"));
    let patch = |text: &str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": text}});
    let mut spec = json!({
        "reinvocationPolicy": "Never",
        "mutations": [
            label("one"),
            apply("Object{metadata: Object.metadata{name: 'other'}}"),
            patch("[JSONPatch{op: 'remove', path: '/data/none'}]"),
            apply("Object{spec: Object.spec{none: 'x'}}"),
            label("two"),
            patch("[JSONPatch{op: 'test', path: '/data/none', value: 'x'}, JSONPatch{op: 'remove', path: '/data'}]"),
        ],
    });
    for (name, value) in policy.as_object().unwrap() {
        spec[name] = value.clone();
    }
    spec
}

#[tokio::test]
async fn mutations_that_fail_refuse_the_request() {
    let stage = Stage::new().await;
    stage.policy("mutating", mutations(json!({})), json!({})).await;
    let status = expect(stage.map("a", json!({"k": "v"})).await, 403);
    let head = "policy 'p' with binding 'b' denied request:";
    let why = format!("{head} error applying patch: invalid ApplyConfiguration: may not change metadata.name");
    assert_eq!((&status["message"], &status["reason"]), (&json!(why), &json!("Invalid")));
    let causes = status["details"]["causes"].as_array().unwrap();
    assert_eq!((causes.len(), &causes[0]["message"]), (3, &json!(why)));
    assert!(causes[1]["message"].as_str().unwrap().starts_with(&format!("{head} JSON Patch: ")), "{status}");
    let why = "failed to convert patch object to typed object: .spec: field not declared in schema";
    assert_eq!(causes[2]["message"], format!("{head} error applying patch: {why}"));
}

#[tokio::test]
async fn mutations_that_may_fail_leave_the_others_their_work() {
    let stage = Stage::new().await;
    stage.policy("mutating", mutations(json!({"failurePolicy": "Ignore"})), json!({})).await;
    let made = expect(stage.map("a", json!({"k": "v"})).await, 201);
    assert_eq!((&made["metadata"]["labels"], &made["data"]), (&json!({"one": "", "two": ""}), &json!({"k": "v"})));
}

#[tokio::test]
async fn policies_whose_parameters_have_no_kind_cannot_act() {
    let cases = [
        ("mutating", mutations(json!({})), 403, "policy \"p\" denied request"),
        (
            "validating",
            json!({"validations": [{"expression": "true"}]}),
            422,
            "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' denied request",
        ),
    ];
    for (kind, mut spec, code, head) in cases {
        let stage = Stage::new().await;
        spec["paramKind"] = json!({"apiVersion": "v1", "kind": "Nonsense"});
        stage.policy(kind, spec, json!({"validationActions": ["Deny"]})).await;
        let status = expect(stage.map("a", json!({})).await, code);
        let why = "failed to configure policy: failed to find resource referenced by paramKind: '/v1, Kind=Nonsense'";
        assert_eq!(status["message"], format!("{head}: {why}"));
    }
}

#[tokio::test]
async fn policies_with_wrong_expressions_are_not_accepted() {
    let stage = Stage::new().await;
    let rules =
        json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]);
    let cases = [
        (json!({"validations": [{"expression": "object."}]}), "spec.validations[0].expression"),
        (json!({"validations": [{"expression": "params.x"}]}), "spec.validations[0].expression"),
        (
            json!({"validations": [{"expression": "true", "messageExpression": "1"}]}),
            "spec.validations[0].messageExpression",
        ),
        (
            json!({"variables": [{"name": "a", "expression": "1 +"}], "validations": [{"expression": "true"}]}),
            "spec.variables[0].expression",
        ),
        (
            json!({"matchConditions": [{"name": "a", "expression": "1"}], "validations": [{"expression": "true"}]}),
            "spec.matchConditions[0].expression",
        ),
    ];
    for (mut spec, field) in cases {
        spec["matchConstraints"] = json!({"resourceRules": rules});
        let body = json!({"metadata": {"name": "p"}, "spec": spec});
        let refused = expect(stage.client.post(&format!("{GROUP}/validatingadmissionpolicies"), &body).await, 422);
        assert_eq!(refused["details"]["causes"][0]["field"], field, "{refused}");
    }
}
