//! Webhook configurations (upstream: `pkg/registry/admissionregistration/*webhookconfiguration`).

use std::collections::HashSet;

use crate::expression::admission::{Scope, Wanted};
use crate::kinds::kind::Kind;
use crate::kinds::rules::fill::{self, default_pointer, each, object_at};
use crate::kinds::rules::tree::{Errors, Fields, Node};
use crate::kinds::rules::{client_config, labels, naming};
use crate::object::Object;
use crate::table::cell::Cell::{Age, Count, Name};

pub(crate) const MUTATING: Kind = Kind {
    categories: &["api-extensions"],
    has_generation: true,
    cells: &[Name, Count(&["webhooks"]), Age],
    default,
    validate_new: webhooks,
    validate_change: changed_webhooks,
    validation_may_take_long: true,
    rechecks: (1, 0),
    unconditional_update: false,
    ..Kind::cluster("mutatingwebhookconfigurations", "MutatingWebhookConfiguration")
};

pub(crate) const VALIDATING: Kind = Kind {
    categories: &["api-extensions"],
    has_generation: true,
    cells: &[Name, Count(&["webhooks"]), Age],
    default,
    validate_new: webhooks,
    validate_change: changed_webhooks,
    validation_may_take_long: true,
    rechecks: (1, 0),
    unconditional_update: false,
    ..Kind::cluster("validatingwebhookconfigurations", "ValidatingWebhookConfiguration")
};

const HARMLESS: [&str; 2] = ["None", "NoneOnDryRun"];
const EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
/// How many conditions a webhook or policy may have.
const CONDITIONS: usize = 64;

/// What a configuration is held to.
struct Demands {
    conditions: bool,
    harmless: bool,
    known_review: bool,
    unique_names: bool,
}

impl Demands {
    const ALL: Self = Self { conditions: true, harmless: true, known_review: true, unique_names: true };

    fn of_update(new: &Node<'_, '_>, old: &Node<'_, '_>) -> Self {
        let (new, hooks) = (new.field("webhooks"), old.field("webhooks"));
        let same_conditions = |(new, old): (Node<'_, '_>, Node<'_, '_>)| {
            new.field("matchConditions").is_same(&old.field("matchConditions"))
        };
        let unchanged = new.list().len() == hooks.list().len() && new.items().zip(hooks.items()).all(same_conditions);
        let mut names = HashSet::new();
        Self {
            conditions: !unchanged,
            harmless: hooks.items().all(|hook| HARMLESS.contains(&hook.field("sideEffects").text())),
            known_review: hooks.items().all(|hook| {
                let versions = hook.field("admissionReviewVersions");
                versions.is_empty() || is_understood(&versions)
            }),
            unique_names: hooks.items().all(|hook| names.insert(hook.field("name").text())),
        }
    }
}

/// A new webhook configuration.
fn webhooks(object: &Node<'_, '_>, errors: &mut Errors) {
    configuration(object, &Demands::ALL, errors);
}

/// A changed webhook configuration.
fn changed_webhooks(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    configuration(new, &Demands::of_update(new, old), errors);
}

fn configuration(object: &Node<'_, '_>, demands: &Demands, errors: &mut Errors) {
    let hooks = object.field("webhooks");
    let mut names = HashSet::new();
    for hook in hooks.items() {
        webhook(&hook, demands, errors);
        let name = hook.field("name");
        if demands.unique_names && !name.text().is_empty() && !names.insert(name.text()) {
            errors.duplicate(&name);
        }
    }
}

fn webhook(hook: &Node<'_, '_>, demands: &Demands, errors: &mut Errors) {
    qualified_domain(&hook.field("name"), errors);
    for rule in hook.field("rules").items() {
        rule_with_operations(&rule, errors);
    }
    errors.none_or_one_of(&hook.field("failurePolicy"), &["Fail", "Ignore"]);
    errors.none_or_one_of(&hook.field("matchPolicy"), &["Equivalent", "Exact"]);
    let (effects, allowed) = (hook.field("sideEffects"), if demands.harmless { &HARMLESS[..] } else { &EFFECTS[..] });
    if effects.is_unset() {
        errors.required(&effects, &format!("must specify one of {}", allowed.join(", ")));
    } else {
        errors.one_of(&effects, allowed);
    }
    let timeout = hook.field("timeoutSeconds");
    if timeout.integer().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        errors.invalid(&timeout, "the timeout value must be between 1 and 30 seconds");
    }
    labels::selector(&hook.field("namespaceSelector"), errors);
    labels::selector(&hook.field("objectSelector"), errors);
    errors.none_or_one_of(&hook.field("reinvocationPolicy"), &["IfNeeded", "Never"]);
    client_config::client_config(&hook.field("clientConfig"), errors);
    if demands.conditions {
        match_conditions(&hook.field("matchConditions"), &Scope::default(), errors);
    }
    review_versions(&hook.field("admissionReviewVersions"), demands, errors);
}

fn qualified_domain(at: &Node<'_, '_>, errors: &mut Errors) {
    if !errors.require_text(at) {
        return;
    }
    let wrong = naming::subdomain(at.text());
    if !wrong.is_empty() {
        errors.invalid(at, &wrong.join(","));
    } else if at.text().split('.').count() < 3 {
        errors.invalid(at, "should be a domain with at least three segments separated by dots");
    }
}

fn is_understood(versions: &Node<'_, '_>) -> bool {
    versions.texts().any(|version| REVIEWS.contains(&version))
}

fn review_versions(at: &Node<'_, '_>, demands: &Demands, errors: &mut Errors) {
    if at.is_empty() {
        errors.required(at, "must specify one of v1, v1beta1");
        return;
    }
    let mut seen = HashSet::new();
    for version in at.items() {
        if !seen.insert(version.text()) {
            errors.invalid(&version, "duplicate version");
            continue;
        }
        errors.invalid_all(&version, naming::dns1035_label(version.text()));
    }
    if demands.known_review && !is_understood(at) {
        errors.invalid(at, "must include at least one of v1, v1beta1");
    }
}

/// `matchConditions`.
pub(crate) fn match_conditions(at: &Node<'_, '_>, scope: &Scope, errors: &mut Errors) {
    if at.list().len() > CONDITIONS {
        errors.too_many(at, at.list().len(), CONDITIONS);
    }
    let mut names = HashSet::new();
    for condition in at.items() {
        let (name, expression) = (condition.field("name"), condition.field("expression"));
        if expression.text().trim().is_empty() {
            errors.required(&expression, "");
        } else {
            compiles_trimmed(&expression, scope, Wanted::Bool, errors);
        }
        if errors.require_text(&name) {
            errors.invalid_all(&name, naming::qualified_name(name.text()));
            if !names.insert(name.text()) {
                errors.duplicate(&name);
            }
        }
    }
}

/// An expression that must compile to what is wanted, without the blanks around it.
pub(crate) fn compiles_trimmed(at: &Node<'_, '_>, scope: &Scope, wanted: Wanted, errors: &mut Errors) {
    if let Err(why) = scope.compile(at.text().trim(), wanted) {
        errors.invalid_value(at, at.text().trim(), &why);
    }
}

/// A `RuleWithOperations`.
pub(crate) fn rule_with_operations(rule: &Node<'_, '_>, errors: &mut Errors) {
    let operations = rule.field("operations");
    if operations.is_empty() {
        errors.required(&operations, "");
    }
    if operations.list().len() > 1 && operations.texts().any(|one| one == "*") {
        errors.invalid(&operations, "if '*' is present, must not specify other operations");
    }
    for operation in operations.items() {
        errors.one_of(&operation, &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"]);
    }
    for (key, what) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let list = rule.field(key);
        if list.is_empty() {
            errors.required(&list, "");
        }
        if list.list().len() > 1 && list.texts().any(|one| one == "*") {
            errors.invalid(&list, &format!("if '*' is present, must not specify other {what}"));
        }
        for version in list.items().filter(|version| key == "apiVersions" && version.text().is_empty()) {
            errors.required(&version, "");
        }
    }
    rule_resources(&rule.field("resources"), errors);
    errors.none_or_one_of(&rule.field("scope"), &["*", "Cluster", "Namespaced"]);
}

/// Resources that a rule names; one that a wildcard before it has named is one too many.
fn rule_resources(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.is_empty() {
        errors.required(at, "");
    }
    let (mut whole, mut everywhere) = (HashSet::new(), HashSet::new());
    let mut last_is_plain = false;
    for resource in at.items() {
        if resource.text().is_empty() {
            errors.required(&resource, "");
            continue;
        }
        let Some((name, sub)) = resource.text().split_once('/') else {
            last_is_plain = resource.text() != "*";
            continue;
        };
        for (found, wildcard) in
            [(whole.contains(name), format!("{name}/*")), (everywhere.contains(sub), format!("*/{sub}"))]
        {
            if found {
                let why = format!("if '{wildcard}' is present, must not specify {name}/{sub}");
                errors.invalid(&resource, &why);
            }
        }
        if sub == "*" {
            whole.insert(name);
        }
        if name == "*" {
            everywhere.insert(sub);
        }
    }
    if at.list().len() > 1 && at.texts().any(|one| one == "*/*") {
        errors.invalid(at, "if '*/*' is present, must not specify other resources");
    }
    if last_is_plain && at.texts().any(|one| one == "*") {
        errors.invalid(at, "if '*' is present, must not specify other resources without subresources");
    }
}

/// Defaults of a webhook configuration.
fn default(object: &mut Object) {
    let mutating = object.kind() == "MutatingWebhookConfiguration";
    each(object.root_mut(), "webhooks", |webhook| {
        default_pointer(webhook, "failurePolicy", "Fail");
        default_pointer(webhook, "matchPolicy", "Equivalent");
        fill::object(webhook, "namespaceSelector");
        fill::object(webhook, "objectSelector");
        default_pointer(webhook, "timeoutSeconds", 10);
        if mutating {
            default_pointer(webhook, "reinvocationPolicy", "Never");
        }
        default_rules(webhook, "rules");
        if let Some(service) = object_at(fill::object(webhook, "clientConfig"), "service") {
            default_pointer(service, "port", 443);
        }
    });
}

pub(crate) fn default_rules(holder: &mut Fields, key: &str) {
    each(holder, key, |rule| default_pointer(rule, "scope", "*"));
}
