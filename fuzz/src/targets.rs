//! What is fuzzed: a function per input that comes from outside. None may panic, hang or use much memory, whatever the
//! bytes; and what each promises about what it does accept is asserted.
//!
//! This file is compiled twice: by the fuzzer, and by a test of `api` that runs a short while on every build.
#![allow(unreachable_pub, reason = "the fuzzer sees a library, the test a module")]

use api::apply::{Writer, apply, track_update};
use api::catalog::Catalog;
use api::codec::{self, FieldValidation, Media, Target, json, protobuf, yaml};
use api::jsonpath::JsonPath;
use api::resource::split_api_version;
use api::selector::{FieldSelector, LabelSelector};
use api::strategy::{User, WriteContext};
use api::{Object, Path, Resource, patch, table, validate};
use cel::{Bindings, Limits};
use facts::quantity::Quantity;
use jiff::Timestamp;
use serde_json::Value;

/// A target: its name and what it does.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// All targets.
pub const ALL: &[FuzzTarget] = &[
    ("json", json_body),
    ("yaml", yaml_body),
    ("protobuf", protobuf_body),
    ("kinds", kinds),
    ("json_patch", json_patch),
    ("merge_patch", merge_patch),
    ("strategic", strategic_merge),
    ("apply", server_side_apply),
    ("managed_fields", managed_fields),
    ("selectors", selectors),
    ("quantities", quantities),
    ("jsonpath", json_path),
    ("cel", expressions),
];

/// Runs the target of that name.
///
/// # Panics
/// When there is none.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = ALL.iter().find(|(known, _)| *known == name).expect("a target of this name");
    target(data);
}

/// A small valid object of every kind, in every encoding.
pub fn seeds_of_kinds() -> Vec<Vec<u8>> {
    objects()
        .flat_map(|object| {
            [
                encoded(0, object.to_string().as_bytes()),
                encoded(1, yaml_of(&object).as_bytes()),
                encoded(2, &protobuf_of(&object)),
            ]
        })
        .collect()
}

/// The same in protobuf alone.
pub fn seeds_of_protobuf() -> Vec<Vec<u8>> {
    objects().map(|object| protobuf_of(&object)).collect()
}

fn objects() -> impl Iterator<Item = Value> {
    const OBJECTS: &str = include_str!("../../apiserver/tests/api/minimal_objects.yaml");
    let text = |document: &str| document.replace("$NAME", "one").replace("$NUMBER", "7");
    let objects = OBJECTS.split("\n---\n");
    let objects = objects.map(move |document| yaml::parse(text(document).as_bytes()).expect("YAML").0.into_value());
    // Custom objects have no message.
    objects.filter(|object| object["apiVersion"].as_str().is_none_or(|version| !version.starts_with("example.com/")))
}

fn yaml_of(object: &Value) -> String {
    let Ok(text) = codec::to_yaml(object);
    text
}

fn protobuf_of(object: &Value) -> Vec<u8> {
    protobuf::encode(object).expect("every kind has a message")
}

fn encoded(media: u8, body: &[u8]) -> Vec<u8> {
    [&[media], body].concat()
}

/// Between two documents of one input.
const SEPARATOR: u8 = b'\n';

fn two(data: &[u8]) -> (&[u8], &[u8]) {
    let at = data.iter().position(|byte| *byte == SEPARATOR).unwrap_or(data.len());
    (&data[..at], data.get(at + 1..).unwrap_or_default())
}

fn value(data: &[u8]) -> Option<Value> {
    json::parse(data).ok().map(|node| node.into_value())
}

fn resource(group: &str, version: &str, plural: &str) -> std::sync::Arc<Resource> {
    Catalog::builtin().resource(group, version, plural).expect("a built-in resource").clone()
}

/// What is read is written and read the same.
fn json_body(data: &[u8]) {
    let Some(value) = value(data) else { return };
    let again = json::parse(value.to_string().as_bytes()).expect("what was written can be read").into_value();
    assert_eq!(again, value);
}

fn yaml_body(data: &[u8]) {
    let Ok((node, _)) = yaml::parse(data) else { return };
    let value = node.into_value();
    let Ok(text) = codec::to_yaml(&value);
    let again = yaml::parse(text.as_bytes()).unwrap_or_else(|err| panic!("{err}: {text}")).0.into_value();
    assert_eq!(again, value, "{text}");
}

/// Fields of a later version are dropped once, and nothing after that.
fn protobuf_body(data: &[u8]) {
    let Ok(tree) = protobuf::decode(data) else { return };
    let Ok(bytes) = protobuf::encode(&tree) else { return };
    let again = protobuf::decode(&bytes).expect("what was written can be read");
    assert_eq!(again, tree);
}

/// A body takes the way of a create: decoding, defaults, rules, columns. The first byte chooses the encoding; the kind
/// is what the body says.
fn kinds(data: &[u8]) {
    let Some((media, body)) = data.split_first() else { return };
    let media = [Media::Json, Media::Yaml, Media::Protobuf][usize::from(*media) % 3];
    let Some((api_version, kind)) = type_of(media, body) else { return };
    let Some((group, version)) = split_api_version(&api_version) else { return };
    let catalog = Catalog::builtin();
    let Some(row) = catalog.kind(group, version, &kind) else { return };
    let Ok(decoded) = codec::decode(body, media, &Target::of(row), FieldValidation::Warn) else { return };
    create(row, decoded.object);
}

fn type_of(media: Media, body: &[u8]) -> Option<(String, String)> {
    let tree = match media {
        Media::Json => value(body)?,
        Media::Yaml => yaml::parse(body).ok()?.0.into_value(),
        Media::Protobuf => {
            let unknown = protobuf::Unknown::read(body).ok()?;
            return Some((unknown.api_version.to_owned(), unknown.kind.to_owned()));
        }
    };
    Some((tree.get("apiVersion")?.as_str()?.to_owned(), tree.get("kind")?.as_str()?.to_owned()))
}

fn create(row: &Resource, mut object: Object) {
    let user = User { name: "fuzzer".to_owned(), ..User::default() };
    let ctx = WriteContext { now: Timestamp::UNIX_EPOCH, user: &user, subresource: "" };
    row.strategy.default(&mut object);
    let mut twice = object.clone();
    row.strategy.default(&mut twice);
    assert_eq!(twice, object, "defaults are set once");
    row.strategy.prepare_create(&ctx, &mut object);
    let structural = validate::structural(&object.to_value(), row.schema(), &Path::default());
    row.strategy.warnings(&object, None);
    table::cells(row, &object, Timestamp::UNIX_EPOCH);
    table::partial_metadata(&object);
    // Semantic rules look at objects of the right shape only.
    if structural.is_empty() {
        row.strategy.validate_create(&ctx, &object);
        row.strategy.validate_update(&ctx, &object, &object);
    }
}

fn json_patch(data: &[u8]) {
    let (doc, patch) = two(data);
    if let Some(doc) = value(doc) {
        patch::strict_findings(patch);
        let _refused = patch::json_patch(doc, patch);
    }
}

/// RFC 7396, as its pseudo code says it.
fn merged(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = target.as_object().cloned().unwrap_or_default();
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            let merged = merged(target.get(name).unwrap_or(&Value::Null), value);
            target.insert(name.clone(), merged);
        }
    }
    Value::Object(target)
}

fn merge_patch(data: &[u8]) {
    let (doc, patch) = two(data);
    let Some(doc) = value(doc).filter(Value::is_object) else { return };
    let (Ok(outcome), Some(patch)) = (patch::merge_patch(doc.clone(), patch), value(patch)) else { return };
    assert_eq!(outcome, merged(&doc, &patch));
}

fn strategic_merge(data: &[u8]) {
    let (doc, patch) = two(data);
    let Some(doc) = value(doc).filter(Value::is_object) else { return };
    let row = resource("apps", "v1", "deployments");
    let _refused = patch::strategic_merge(doc, patch, row.schema());
}

fn writer<'a>(manager: &'a str) -> Writer<'a> {
    Writer {
        manager,
        api_version: "apps/v1",
        kind: "Deployment",
        subresource: "",
        status_apart: true,
        spec_apart: false,
        now: Timestamp::UNIX_EPOCH,
    }
}

fn deployment(data: &[u8]) -> Option<Object> {
    let row = resource("apps", "v1", "deployments");
    let decoded = codec::decode(data, Media::Json, &Target::of(&row), FieldValidation::Ignore).ok()?;
    Some(decoded.object)
}

/// What was applied once changes nothing when it is applied again.
fn server_side_apply(data: &[u8]) {
    let (live, configuration) = two(data);
    let (live, Some(configuration)) = (deployment(live), deployment(configuration)) else { return };
    let row = resource("apps", "v1", "deployments");
    let Ok(once) = apply(live.as_ref(), &configuration, row.schema(), &writer("fuzzer"), true) else { return };
    let twice = apply(Some(&once.object), &configuration, row.schema(), &writer("fuzzer"), false);
    let twice = twice.expect("the owner of a field applies it again");
    assert!(!twice.changed, "{:#?}\nis not\n{:#?}", twice.object, once.object);
}

/// Owners that a client made up.
fn managed_fields(data: &[u8]) {
    let (entries, object) = two(data);
    let (Some(entries), Some(mut object)) = (value(entries), deployment(object)) else { return };
    let row = resource("apps", "v1", "deployments");
    let mut live = object.clone();
    live.set_metadata("managedFields", entries);
    let _refused = apply(Some(&live), &object, row.schema(), &writer("fuzzer"), false);
    track_update(Some(&live), &mut object, row.schema(), &writer("other"));
}

fn selectors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(selector) = LabelSelector::parse(text) {
        selector.matches_with(|key| key.len().is_multiple_of(2).then_some("a"));
        let shown = selector.to_string();
        let again = LabelSelector::parse(&shown).unwrap_or_else(|err| panic!("{err}: {shown}"));
        assert_eq!(again.to_string(), shown);
    }
    let pods = resource("", "v1", "pods");
    if let Ok(selector) = FieldSelector::parse(text, &pods) {
        selector.matches(&Object::default());
    }
}

fn quantities(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(quantity) = text.parse::<Quantity>() else { return };
    let shown = quantity.to_string();
    let again: Quantity = shown.parse().unwrap_or_else(|_| panic!("{text:?} is shown as {shown:?}"));
    assert!(again == quantity, "{text:?} is shown as {shown:?}, which is {again}");
    quantity.value();
    quantity.milli_value();
    quantity.to_f64();
}

fn json_path(data: &[u8]) {
    let (path, document) = two(data);
    let Ok(path) = std::str::from_utf8(path) else { return };
    let Ok(path) = JsonPath::parse(path) else { return };
    path.fields();
    path.find(&value(document).unwrap_or_default());
}

/// An expression ends within its cost, whatever it is worked out over.
fn expressions(data: &[u8]) {
    const COST: u64 = 100_000;
    let (text, input) = two(data);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let env = api::expression::environment().extend().variable("self", cel::Type::Dyn).build();
    let Ok(program) = env.compile(text) else { return };
    program.cost_estimate();
    let input = value(input).unwrap_or_default();
    let bindings = Bindings::new().with("self", cel::Value::json(&input));
    let (_outcome, cost) = program.evaluate(&bindings, &Limits::cost(COST));
    assert!(cost <= COST * 2, "{cost}");
}
