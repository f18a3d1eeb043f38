//! Rules for CustomResourceDefinitions: names, versions and what versions say. Schemas have a file of their own.

use std::collections::HashSet;

use serde_json::Value;

use super::dump::Shown;
use super::tree::{Errors, Node};
use super::{rules, schema_rules};
use crate::custom::status::{self, Approval};
use crate::field::{FieldError, Path};
use crate::jsonpath::JsonPath;
use crate::rules::check_rules;

const APPROVAL: &str = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see \
                        https://github.com/kubernetes/enhancements/pull/1111";
/// The versions of `ConversionReview` that the server speaks.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
/// How many fields of a version can be selected by.
const SELECTABLE: usize = 8;
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

/// A `CustomResourceDefinition`.
pub(crate) fn definition(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    let (group, names) = (spec.field("group"), spec.field("names"));
    if errors.require_text(&group) {
        errors.invalid_all(&group, rules::subdomain(group.text()));
        if group.text().split('.').count() < 2 {
            errors.invalid(&group, "should be a domain with at least one dot");
        }
    }
    let scope = spec.field("scope");
    if errors.require_text(&scope) {
        errors.one_of(&scope, &["Cluster", "Namespaced"]);
    }
    if spec.field("preserveUnknownFields").is_true() {
        let why =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.invalid(&spec.field("preserveUnknownFields"), why);
    }
    versions(&spec, errors);
    names_rules(&names, errors);
    conversion(&spec.field("conversion"), errors);
    schemas(&spec, errors);
    stored_versions(object, errors);
}

/// Rules for new definitions: groups of Kubernetes itself need an approval.
pub(crate) fn new_definition(object: &Node<'_, '_>, errors: &mut Errors) {
    let (metadata, spec) = (object.field("metadata"), object.field("spec"));
    let group = spec.field("group").text();
    let wanted = format!("{}.{group}", spec.field("names").field("plural").text());
    if metadata.field("name").text() != wanted {
        errors.invalid(&metadata.field("name"), "must be spec.names.plural+\".\"+spec.group");
    }
    if !status::is_protected(group) {
        return;
    }
    let annotations = metadata.field("annotations");
    let approval = annotations.map().and_then(|map| map.get(status::APPROVAL_ANNOTATION)).and_then(Value::as_str);
    let at = annotations.key(status::APPROVAL_ANNOTATION);
    match Approval::of(approval.unwrap_or("")) {
        Approval::Missing => errors.required(&at, APPROVAL),
        Approval::Invalid => errors.invalid(&at, &status::invalid_approval()),
        Approval::Approved | Approval::Unapproved => {}
    }
}

/// What a change may not do: objects lie in the store under group and plural, and clients know scope and kind.
pub(crate) fn definition_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (spec, before) = (new.field("spec"), old.field("spec"));
    let (names, names_before) = (spec.field("names"), before.field("names"));
    let status = old.field("status");
    let conditions = status.field("conditions");
    let established =
        conditions.items().any(|one| one.field("type").text() == "Established" && one.field("status").text() == "True");
    if established {
        errors.immutable(&spec.field("scope"), &before.field("scope"));
        errors.immutable(&names.field("kind"), &names_before.field("kind"));
    }
    errors.immutable(&spec.field("group"), &before.field("group"));
    errors.immutable(&names.field("plural"), &names_before.field("plural"));
}

/// Rules for a write to the status.
pub(crate) fn definition_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    stored_versions(new, errors);
}

fn versions(spec: &Node<'_, '_>, errors: &mut Errors) {
    let list = spec.field("versions");
    let mut names = HashSet::new();
    let mut unique = true;
    for (index, version) in list.items().enumerate() {
        let name = version.field("name");
        let wrong = rules::dns1035_label(name.text());
        if index == 0 {
            // Internally the first version has a field of its own, which is checked as well.
            for why in &wrong {
                errors.invalid_value(&spec.field("version"), name.text(), why);
            }
        }
        errors.invalid_all(&name, wrong);
        unique &= names.insert(name.text());
        version_rules(&version, errors);
    }
    if !unique {
        errors.invalid_shown(&list, &shown_versions(&list), "must contain unique version names");
    }
    if list.items().filter(|version| version.field("storage").is_true()).count() != 1 {
        errors.invalid_shown(&list, &shown_versions(&list), "must have exactly one version marked as storage version");
    }
}

/// What a version says beside its schema.
fn version_rules(version: &Node<'_, '_>, errors: &mut Errors) {
    let warning = version.field("deprecationWarning");
    if warning.is_set() {
        if !version.field("deprecated").is_true() {
            errors.invalid(&warning, "can only be set for deprecated versions");
        }
        if warning.text().len() > 256 {
            errors.invalid(&warning, "must be <= 256 characters long");
        }
        if warning.text().chars().any(char::is_control) {
            errors.invalid(&warning, "must not contain control characters");
        }
    }
    let subresources = version.field("subresources");
    let scale = subresources.field("scale");
    if scale.is_set() {
        scale_rules(&scale, errors);
    }
    for column in version.field("additionalPrinterColumns").items() {
        column_rules(&column, errors);
    }
    selectable_fields(version, errors);
}

fn scale_rules(scale: &Node<'_, '_>, errors: &mut Errors) {
    let places: [(&str, &[&str], &str); 3] = [
        ("specReplicasPath", &[".spec."], "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."], "should be a json path under .status"),
        ("labelSelectorPath", &[".spec.", ".status."], "should be a json path under either .spec or .status"),
    ];
    for (key, heads, why) in places {
        let path = scale.field(key);
        if path.text().is_empty() {
            if key != "labelSelectorPath" {
                errors.required(&path, "");
            }
        } else if !is_simple_path(path.text()) {
            errors.invalid(&path, "must be a simple json path");
        } else if !heads.iter().any(|head| path.text().starts_with(head)) {
            errors.invalid(&path, why);
        }
    }
}

/// `.spec.replicas`: names of fields after dots, and nothing else.
fn is_simple_path(path: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    path.strip_prefix('.').is_some_and(|rest| rest.split('.').all(is_name))
}

fn column_rules(column: &Node<'_, '_>, errors: &mut Errors) {
    if column.field("name").text().is_empty() {
        errors.required(&column.field("name"), "");
    }
    let (kind, format, path) = (column.field("type"), column.field("format"), column.field("jsonPath"));
    if errors.require_text(&kind) {
        errors.one_of(&kind, &COLUMN_TYPES);
    }
    if !format.text().is_empty() {
        errors.one_of(&format, &COLUMN_FORMATS);
    }
    if errors.require_text(&path)
        && let Err(why) = JsonPath::parse(path.text())
    {
        errors.invalid(&path, &why.to_string());
    }
}

fn selectable_fields(version: &Node<'_, '_>, errors: &mut Errors) {
    let (list, schema) = (version.field("selectableFields"), version.field("schema"));
    let schema = schema.field("openAPIV3Schema").value();
    let mut known = HashSet::new();
    for field in list.items() {
        let path = field.field("jsonPath");
        if path.text().is_empty() {
            errors.required(&path, "");
            continue;
        }
        if !is_simple_path(path.text()) {
            errors.invalid(&path, "is an invalid path: it must be a chain of field names, such as .spec.color");
            continue;
        }
        if path.text().starts_with(".metadata") {
            errors.invalid(&path, "must not point to fields in metadata");
        }
        let names = path.text().split('.').skip(1);
        let found = names.fold(schema, |at, name| at?.get("properties")?.get(name));
        match found.map(|found| found.get("type").and_then(Value::as_str).unwrap_or("")) {
            None => errors.invalid(&path, "is an invalid path: does not refer to a valid field"),
            Some("string" | "boolean" | "integer") => {}
            Some(_) => errors.invalid(
                &path,
                "must point to a field of type string, boolean or integer. \
                 Enum string fields and strings with formats are allowed.",
            ),
        }
        if !known.insert(path.text()) {
            errors.duplicate(&path);
        }
    }
    if known.len() > SELECTABLE {
        errors.push(FieldError::too_many(&list.path(), known.len(), SELECTABLE));
    }
}

fn shown_versions(list: &Node<'_, '_>) -> Shown {
    let one = |version: Node<'_, '_>| {
        Shown::fields([
            ("Name", version.field("name").text().into()),
            ("Served", version.field("served").is_true().into()),
            ("Storage", version.field("storage").is_true().into()),
            ("Deprecated", version.field("deprecated").is_true().into()),
            ("DeprecationWarning", version.field("deprecationWarning").shown()),
            // A schema that all versions share is shown once, above them.
            ("Schema", Value::Null),
            ("Subresources", version.field("subresources").shown()),
            ("AdditionalPrinterColumns", version.field("additionalPrinterColumns").shown()),
            ("SelectableFields", version.field("selectableFields").shown()),
        ])
    };
    Shown::List(list.items().map(one).collect())
}

fn names_rules(names: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["plural", "singular"] {
        let name = names.field(key);
        for why in rules::dns1035_label(name.text()) {
            errors.invalid_value(&name, name.text(), &why);
        }
    }
    for key in ["kind", "listKind"] {
        let name = names.field(key);
        for why in rules::dns1035_label(&name.text().to_lowercase()) {
            errors.invalid_value(
                &name,
                name.text(),
                &format!("may have mixed case, but should otherwise match: {why}"),
            );
        }
    }
    for list in ["shortNames", "categories"] {
        for name in names.field(list).items() {
            errors.invalid_all(&name, rules::dns1035_label(name.text()));
        }
    }
    let list_kind = names.field("listKind");
    if !list_kind.text().is_empty() && list_kind.text() == names.field("kind").text() {
        errors.invalid(&list_kind, "kind and listKind may not be the same");
    }
}

fn conversion(at: &Node<'_, '_>, errors: &mut Errors) {
    let (strategy, webhook) = (at.field("strategy"), at.field("webhook"));
    match strategy.text() {
        "None" => {
            if webhook.is_set() {
                errors.forbidden(&webhook, "should not be set when strategy is not set to Webhook");
            }
        }
        "Webhook" => {
            let client = webhook.field("clientConfig");
            if client.is_unset() {
                errors.required(&at.field("webhookClientConfig"), "required when strategy is set to Webhook");
            } else {
                super::webhook_rules::client_config(&client, errors);
            }
            review_versions(&webhook.field("conversionReviewVersions"), errors);
        }
        _ => errors.one_of(&strategy, &["None", "Webhook"]),
    }
}

fn review_versions(list: &Node<'_, '_>, errors: &mut Errors) {
    if list.is_empty() {
        errors.required(list, "");
        return;
    }
    let mut known = HashSet::new();
    for version in list.items() {
        if known.insert(version.text()) {
            errors.invalid_all(&version, rules::dns1035_label(version.text()));
        } else {
            errors.duplicate(&version);
        }
    }
    if !REVIEWS.iter().any(|version| known.contains(version)) {
        errors.invalid(list, "must include at least one of v1, v1beta1");
    }
}

fn stored_versions(object: &Node<'_, '_>, errors: &mut Errors) {
    let (spec, status) = (object.field("spec"), object.field("status"));
    let (versions, stored) = (spec.field("versions"), status.field("storedVersions"));
    if stored.is_empty() {
        errors.invalid_value(&stored, Value::Null, "must have at least one stored version");
        return;
    }
    let storage = versions.items().filter(|version| version.field("storage").is_true()).last();
    if let Some(storage) = storage {
        let name = storage.field("name").text();
        if !stored.texts().any(|one| one == name) {
            errors.invalid(&stored, &format!("must have the storage version {name}"));
        }
    }
    for version in stored.items() {
        if !versions.items().any(|one| one.field("name").text() == version.text()) {
            let name = version.text();
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until \
                 a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.invalid(&version, &why);
        }
    }
}

/// Where all versions share one schema, upstream reports its errors at a place above the versions.
fn schemas(spec: &Node<'_, '_>, errors: &mut Errors) {
    let list = spec.field("versions");
    let own = |value: &Value| value.pointer("/schema/openAPIV3Schema").cloned();
    let first = list.list().first().and_then(own);
    let shared = list.list().iter().all(|version| own(version) == first);
    for (index, version) in list.items().enumerate() {
        let holder = version.field("schema");
        let schema = holder.field("openAPIV3Schema");
        if schema.is_unset() {
            errors.required(&schema, "");
            continue;
        }
        if shared && index > 0 {
            continue;
        }
        let path = if shared { Path::new("spec").child("validation").child("openAPIV3Schema") } else { schema.path() };
        let Some(written) = schema.value() else { continue };
        let before = errors.0.len();
        schema_rules::schema(written, &path, errors);
        if errors.0.len() == before {
            errors.0.extend(check_rules(written, &path));
        }
    }
}
