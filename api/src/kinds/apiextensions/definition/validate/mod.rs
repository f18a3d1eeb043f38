//! Rules for CustomResourceDefinitions: names, versions and what versions say (upstream:
//! `apiextensions/validation`). Schemas have a file of their own.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde_json::Value;

use super::schema;
use crate::custom::status::{self, Approval};
use crate::field::{FieldError, Path};
use crate::jsonpath::JsonPath;
use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{client_config, naming};
use crate::rules::check_rules;

const APPROVAL: &str = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see \
                        https://github.com/kubernetes/enhancements/pull/1111";
/// The versions of `ConversionReview` that the server speaks.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
/// How many fields of a version can be selected by.
const SELECTABLE: usize = 8;
/// What may be said of a whole object whose status is validated apart: in JSON, and as the reference tells it.
const AT_ROOT: [&str; 22] = [
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];
const ALLOWED_AT_ROOT: &str = "Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength \
                               MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties \
                               ExternalDocs Example XPreserveUnknownFields XValidations";
const NOT_SIMPLE: &str = "must be a simple json path starting with .";
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

/// A `CustomResourceDefinition`.
pub(crate) fn definition(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    let (group, names) = (spec.field("group"), spec.field("names"));
    if errors.require_text(&group) {
        let wrong = naming::subdomain(group.text());
        let is_one = wrong.is_empty();
        errors.invalid_all(&group, wrong);
        if is_one && group.text().split('.').count() < 2 {
            errors.invalid(&group, "should be a domain with at least one dot");
        }
    }
    let scope = spec.field("scope");
    if errors.require_text(&scope) {
        errors.one_of(&scope, &["Cluster", "Namespaced"]);
    }
    let shared = Shared::of(&spec.field("versions"));
    versions(&spec, &shared, errors);
    names_rules(&names, errors);
    shared.check(&spec.field("versions"), errors);
    conversion(&spec.field("conversion"), errors);
    stored_versions(object, errors);
    if spec.field("preserveUnknownFields").is_true() {
        let why =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.invalid(&spec.field("preserveUnknownFields"), why);
    }
}

/// What all versions say in the same way: it counts as said once, above them, and its errors are there.
struct Shared {
    schema: bool,
    subresources: bool,
    columns: bool,
    selectable_fields: bool,
}

impl Shared {
    fn of(versions: &Node<'_, '_>) -> Self {
        let first = versions.index(0);
        let is_shared = |field: &str| versions.items().all(|version| version.field(field).is_same(&first.field(field)));
        Self {
            schema: is_shared("schema"),
            subresources: is_shared("subresources"),
            columns: is_shared("additionalPrinterColumns"),
            selectable_fields: is_shared("selectableFields"),
        }
    }

    fn check(&self, versions: &Node<'_, '_>, errors: &mut Errors) {
        let (first, above) = (versions.index(0), |name: &str| Path::new("spec").child(name));
        let has_status = versions.items().any(|version| has_status(&version));
        if self.schema {
            let (holder, path) = (first.field("schema"), above("validation").child("openAPIV3Schema"));
            schema(&Node::at(&path, holder.field("openAPIV3Schema").value()), has_status, errors);
        }
        if self.subresources {
            subresources(&Node::at(&above("subresources"), first.field("subresources").value()), errors);
        }
        if self.columns {
            let path = above("additionalPrinterColumns");
            columns(&Node::at(&path, first.field("additionalPrinterColumns").value()), errors);
        }
        if self.selectable_fields {
            let path = above("selectableFields");
            selectable_fields(&Node::at(&path, first.field("selectableFields").value()), &first, errors);
        }
    }
}

/// Rules for new definitions: groups of Kubernetes itself need an approval.
pub(crate) fn new_definition(object: &Node<'_, '_>, errors: &mut Errors) {
    let (metadata, spec) = (object.field("metadata"), object.field("spec"));
    let group = spec.field("group").text();
    let wanted = format!("{}.{group}", spec.field("names").field("plural").text());
    // That there must be a name is said elsewhere.
    let name = metadata.field("name");
    if !name.text().is_empty() && name.text() != wanted {
        errors.invalid(&name, "must be spec.names.plural+\".\"+spec.group");
    }
    approval_rules(object, None, errors);
}

/// What an approval says.
fn approval(object: &Node<'_, '_>) -> Approval {
    let metadata = object.field("metadata");
    let annotations = metadata.field("annotations");
    let text = annotations.map().and_then(|map| map.get(status::APPROVAL_ANNOTATION)).and_then(Value::as_str);
    Approval::of(text.unwrap_or(""))
}

/// Groups of Kubernetes itself need an approval; what was let in without one may stay.
fn approval_rules(object: &Node<'_, '_>, old: Option<&Node<'_, '_>>, errors: &mut Errors) {
    let (metadata, spec) = (object.field("metadata"), object.field("spec"));
    if !status::is_protected(spec.field("group").text()) {
        return;
    }
    let given = approval(object);
    if old.is_some_and(|old| approval(old) == given) {
        return;
    }
    let annotations = metadata.field("annotations");
    let at = annotations.key(status::APPROVAL_ANNOTATION);
    match given {
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
    approval_rules(new, Some(old), errors);
}

/// Rules for a write to the status.
pub(crate) fn definition_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    stored_versions(new, errors);
}

/// Formats that no value is held against, unless they were there before.
pub(crate) fn warnings(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    let before = old.map(unknown_formats).unwrap_or_default();
    let news = unknown_formats(new).into_iter().filter(|format| !before.contains(format));
    texts.extend(news.map(|format| format!("unrecognized format {format:?}")));
}

fn unknown_formats(definition: &Node<'_, '_>) -> Vec<String> {
    let spec = definition.field("spec");
    let mut found = Vec::new();
    for version in spec.field("versions").items() {
        let holder = version.field("schema");
        let mut of_version = Vec::new();
        if let Some(schema) = holder.field("openAPIV3Schema").value() {
            schema::unknown_formats(schema, &mut of_version);
        }
        found.extend(of_version.into_iter().map(str::to_owned));
    }
    found
}

fn versions(spec: &Node<'_, '_>, shared: &Shared, errors: &mut Errors) {
    let list = spec.field("versions");
    for version in list.items() {
        let holder = version.field("schema");
        if holder.field("openAPIV3Schema").is_unset() {
            errors.required(&holder.field("openAPIV3Schema"), "");
        }
    }
    let mut names = HashSet::new();
    let mut unique = true;
    for version in list.items() {
        let name = version.field("name");
        unique &= names.insert(name.text());
        joined(&name, naming::dns1035_label(name.text()), "", errors);
        deprecation(&version, errors);
        if !shared.schema {
            let holder = version.field("schema");
            schema(&holder.field("openAPIV3Schema"), has_status(&version), errors);
        }
        if !shared.subresources {
            subresources(&version.field("subresources"), errors);
        }
        if !shared.columns {
            columns(&version.field("additionalPrinterColumns"), errors);
        }
        if !shared.selectable_fields {
            selectable_fields(&version.field("selectableFields"), &version, errors);
        }
    }
    if !unique {
        errors.invalid_shown(&list, &shown_versions(&list, shared), "must contain unique version names");
    }
    if list.items().filter(|version| version.field("storage").is_true()).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.invalid_shown(&list, &shown_versions(&list, shared), why);
    }
    // Internally the first version has a field of its own, which is checked as well.
    if let Some(first) = list.list().first() {
        let name = first.get("name").and_then(Value::as_str).unwrap_or("");
        let wrong = naming::dns1035_label(name);
        if !name.is_empty() && !wrong.is_empty() {
            errors.invalid_value(&spec.field("version"), name, &wrong.join(","));
        }
    }
}

/// One error for all that is wrong with a text.
fn joined(at: &Node<'_, '_>, wrong: Vec<String>, head: &str, errors: &mut Errors) {
    if !wrong.is_empty() {
        errors.invalid_value(at, at.text(), &format!("{head}{}", wrong.join(",")));
    }
}

fn has_status(version: &Node<'_, '_>) -> bool {
    version.field("subresources").field("status").is_set()
}

fn deprecation(version: &Node<'_, '_>, errors: &mut Errors) {
    let warning = version.field("deprecationWarning");
    if warning.is_unset() {
        return;
    }
    if !version.field("deprecated").is_true() {
        errors.invalid(&warning, "can only be set for deprecated versions");
        return;
    }
    if warning.text().len() > 256 {
        errors.invalid(&warning, "must be <= 256 characters long");
    }
    if warning.text().is_empty() {
        errors.invalid(&warning, "must not be an empty string");
    }
    let is_printable = |c: char| c == ' ' || !(c.is_control() || c.is_whitespace());
    if let Some((at, _)) = warning.text().char_indices().find(|(_, c)| !is_printable(*c)) {
        let why = "must only contain printable UTF-8 characters; non-printable character found at index";
        errors.invalid(&warning, &format!("{why} {at}"));
    }
}

fn subresources(at: &Node<'_, '_>, errors: &mut Errors) {
    let scale = at.field("scale");
    if scale.is_set() {
        scale_rules(&scale, errors);
    }
}

fn columns(at: &Node<'_, '_>, errors: &mut Errors) {
    for column in at.items() {
        column_rules(&column, errors);
    }
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
        } else if !path.text().starts_with('.') {
            errors.invalid(&path, NOT_SIMPLE);
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
    // The reference names the path by its Go field.
    let place = column.field("JSONPath");
    let types = format!("must be one of {}", COLUMN_TYPES.join(","));
    if kind.text().is_empty() {
        errors.required(&kind, &types);
    } else if !COLUMN_TYPES.contains(&kind.text()) {
        errors.invalid(&kind, &types);
    }
    if !format.text().is_empty() && !COLUMN_FORMATS.contains(&format.text()) {
        errors.invalid(&format, &format!("must be one of {}", COLUMN_FORMATS.join(",")));
    }
    if path.text().is_empty() {
        errors.required(&place, "");
    } else if !path.text().starts_with('.') {
        errors.invalid_value(&place, path.text(), NOT_SIMPLE);
    } else if let Err(why) = JsonPath::parse(path.text()) {
        errors.invalid_value(&place, path.text(), &why.to_string());
    }
}

fn selectable_fields(list: &Node<'_, '_>, version: &Node<'_, '_>, errors: &mut Errors) {
    let schema = version.field("schema");
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

fn shown_versions(list: &Node<'_, '_>, shared: &Shared) -> Shown {
    // What all versions share is shown once, above them.
    let unless = |shared: bool, at: Node<'_, '_>| if shared { Value::Null } else { at.shown() };
    let one = |version: Node<'_, '_>| {
        Shown::fields([
            ("Name", version.field("name").text().into()),
            ("Served", version.field("served").is_true().into()),
            ("Storage", version.field("storage").is_true().into()),
            ("Deprecated", version.field("deprecated").is_true().into()),
            ("DeprecationWarning", version.field("deprecationWarning").shown()),
            ("Schema", unless(shared.schema, version.field("schema"))),
            ("Subresources", unless(shared.subresources, version.field("subresources"))),
            ("AdditionalPrinterColumns", unless(shared.columns, version.field("additionalPrinterColumns"))),
            ("SelectableFields", unless(shared.selectable_fields, version.field("selectableFields"))),
        ])
    };
    Shown::List(list.items().map(one).collect())
}

fn names_rules(names: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["plural", "singular", "kind", "listKind"] {
        errors.require_text(&names.field(key));
    }
    for key in ["plural", "singular"] {
        let name = names.field(key);
        if !name.text().is_empty() {
            joined(&name, naming::dns1035_label(name.text()), "", errors);
        }
    }
    for key in ["kind", "listKind"] {
        let name = names.field(key);
        if !name.text().is_empty() {
            let wrong = naming::dns1035_label(&name.text().to_lowercase());
            joined(&name, wrong, "may have mixed case, but should otherwise match: ", errors);
        }
    }
    let each = |list: &str, errors: &mut Errors| {
        for name in names.field(list).items() {
            joined(&name, naming::dns1035_label(name.text()), "", errors);
        }
    };
    each("shortNames", errors);
    let list_kind = names.field("listKind");
    if !list_kind.text().is_empty() && list_kind.text() == names.field("kind").text() {
        errors.invalid(&list_kind, "kind and listKind may not be the same");
    }
    each("categories", errors);
}

/// How objects of one version become such of another. What says how to reach the webhook is named as the first version of
/// the API had it.
fn conversion(at: &Node<'_, '_>, errors: &mut Errors) {
    let (strategy, webhook) = (at.field("strategy"), at.field("webhook"));
    if strategy.text().is_empty() {
        errors.required(&strategy, "");
    } else {
        errors.one_of(&strategy, &["None", "Webhook"]);
    }
    let path = at.path();
    let (path, reviews) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    let client = Node::at(&path, webhook.field("clientConfig").value());
    let reviews = Node::at(&reviews, webhook.field("conversionReviewVersions").value());
    if strategy.text() == "Webhook" {
        if client.is_unset() {
            errors.required(&client, "required when strategy is set to Webhook");
        } else {
            client_config::client_config(&client, errors);
        }
        review_versions(&reviews, errors);
        return;
    }
    for field in [client, reviews] {
        if field.is_set() && (field.map().is_some() || !field.is_empty()) {
            errors.forbidden(&field, "should not be set when strategy is not set to Webhook");
        }
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
            errors.invalid_all(&version, naming::dns1035_label(version.text()));
        } else {
            errors.invalid(&version, "duplicate version");
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

/// The schema of a version, or of all.
fn schema(at: &Node<'_, '_>, has_status: bool, errors: &mut Errors) {
    let Some(written) = at.value() else { return };
    let before = errors.0.len();
    if has_status {
        split_off(at, errors);
    }
    if at.field("nullable").is_true() {
        errors.forbidden(&at.field("nullable"), "nullable cannot be true at the root");
    }
    let path = at.path();
    schema::schema(written, &path, errors);
    if errors.0.len() == before {
        errors.0.extend(check_rules(written, &path));
    }
}

/// The root of a schema from which that of the status is split off: nothing that is said there of the whole may be lost.
fn split_off(at: &Node<'_, '_>, errors: &mut Errors) {
    let kind = at.field("type");
    if kind.is_set() && kind.text() != "object" {
        let why =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.invalid(&kind, why);
        return;
    }
    let says = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && *value != "" && *value != 0;
    let is_lost = |(name, value): (&String, &Value)| !AT_ROOT.contains(&name.as_str()) && says(value);
    if at.map().is_some_and(|fields| fields.iter().any(is_lost)) {
        let why = format!(
            "only [{ALLOWED_AT_ROOT}] fields are allowed at the root of the schema if the status subresource is enabled"
        );
        errors.invalid(at, &why);
    }
}
