//! Rules for webhooks, admission policies and APIServices. Expressions must compile to what is wanted of them.

use std::collections::HashSet;

use super::tree::{Errors, Node};
use super::{meta, rules};
use crate::expression::admission::{Scope, Wanted};

/// A webhook configuration.
pub(crate) fn webhooks(object: &Node<'_, '_>, errors: &mut Errors) {
    let hooks = object.field("webhooks");
    let mut names = HashSet::new();
    for hook in hooks.items() {
        webhook(&hook, errors);
        if !names.insert(hook.field("name").text()) {
            errors.duplicate(&hook.field("name"));
        }
    }
}

fn webhook(hook: &Node<'_, '_>, errors: &mut Errors) {
    qualified_domain(&hook.field("name"), errors);
    for rule in hook.field("rules").items() {
        rule_with_operations(&rule, errors);
    }
    errors.none_or_one_of(&hook.field("failurePolicy"), &["Fail", "Ignore"]);
    errors.none_or_one_of(&hook.field("matchPolicy"), &["Equivalent", "Exact"]);
    errors.none_or_one_of(&hook.field("reinvocationPolicy"), &["IfNeeded", "Never"]);
    let effects = hook.field("sideEffects");
    if effects.is_unset() {
        errors.required(&effects, "must specify one of None, NoneOnDryRun");
    } else {
        errors.one_of(&effects, &["None", "NoneOnDryRun"]);
    }
    let timeout = hook.field("timeoutSeconds");
    if timeout.integer().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        errors.invalid(&timeout, "the timeout value must be between 1 and 30 seconds");
    }
    review_versions(&hook.field("admissionReviewVersions"), errors);
    meta::selector(&hook.field("namespaceSelector"), errors);
    meta::selector(&hook.field("objectSelector"), errors);
    client_config(&hook.field("clientConfig"), errors);
    match_conditions(&hook.field("matchConditions"), &Scope::default(), errors);
}

fn qualified_domain(at: &Node<'_, '_>, errors: &mut Errors) {
    if !errors.require_text(at) {
        return;
    }
    let wrong = rules::subdomain(at.text());
    if !wrong.is_empty() {
        errors.invalid(at, &wrong.join(","));
    } else if at.text().split('.').count() < 3 {
        errors.invalid(at, "should be a domain with at least three segments separated by dots");
    }
}

fn review_versions(at: &Node<'_, '_>, errors: &mut Errors) {
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
        errors.invalid_all(&version, super::rules::dns1035_label(version.text()));
    }
    if !at.texts().any(|version| matches!(version, "v1" | "v1beta1")) {
        errors.invalid(at, "must include at least one of v1, v1beta1");
    }
}

/// How to reach a webhook.
pub(crate) fn client_config(at: &Node<'_, '_>, errors: &mut Errors) {
    let (url, service) = (at.field("url"), at.field("service"));
    match (url.is_set(), service.is_set()) {
        (true, true) | (false, false) => errors.required(at, "exactly one of url or service is required"),
        (true, false) => webhook_url(&url, errors),
        (false, true) => service_reference(&service, errors),
    }
}

fn webhook_url(at: &Node<'_, '_>, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let Some((scheme, rest)) = at.text().split_once("://") else {
        errors.required(at, &format!("url must be a valid URL{FORM}"));
        return;
    };
    if scheme != "https" {
        errors.invalid_value(at, scheme, &format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    if host.is_empty() {
        errors.invalid_value(at, "", &format!("host must be specified{FORM}"));
    }
    if let Some((user, _)) = host.rsplit_once('@') {
        errors.invalid_value(at, user, &format!("user information is not permitted in the URL{FORM}"));
    }
    if let Some((_, fragment)) = rest.split_once('#') {
        errors.invalid_value(at, fragment, &format!("fragments are not permitted in the URL{FORM}"));
    } else if let Some((_, query)) = rest.split_once('?') {
        errors.invalid_value(at, query, &format!("query parameters are not permitted in the URL{FORM}"));
    }
}

fn service_reference(at: &Node<'_, '_>, errors: &mut Errors) {
    for (key, why) in [("name", "service name is required"), ("namespace", "service namespace is required")] {
        if at.field(key).text().is_empty() {
            errors.required(&at.field(key), why);
        }
    }
    let port = at.field("port");
    if port.is_set() && !(1..=65535).contains(&port.number()) {
        errors.invalid(&port, "port is not valid: must be between 1 and 65535, inclusive");
    }
    let path = at.field("path");
    if path.is_set() && !path.text().is_empty() {
        if !path.text().starts_with('/') {
            errors.invalid(&path, "must start with a '/'");
        } else if path.text().trim_end_matches('/').split('/').skip(1).any(str::is_empty) && path.text() != "/" {
            errors.invalid(&path, "segment may not be empty");
        }
    }
}

fn match_conditions(at: &Node<'_, '_>, scope: &Scope, errors: &mut Errors) {
    if at.list().len() > 64 {
        errors.too_many(at, at.list().len(), 64);
    }
    let mut names = HashSet::new();
    for condition in at.items() {
        let (name, expression) = (condition.field("name"), condition.field("expression"));
        if expression.text().trim().is_empty() {
            errors.required(&expression, "");
        } else {
            compiles(&expression, scope, Wanted::Bool, errors);
        }
        if errors.require_text(&name) {
            errors.invalid_all(&name, rules::qualified_name(name.text()));
            if !names.insert(name.text()) {
                errors.duplicate(&name);
            }
        }
    }
}

/// An expression that must compile to what is wanted.
fn compiles(at: &Node<'_, '_>, scope: &Scope, wanted: Wanted, errors: &mut Errors) {
    if let Err(why) = scope.compile(at.text(), wanted) {
        errors.invalid(at, &why);
    }
}

fn rule_with_operations(rule: &Node<'_, '_>, errors: &mut Errors) {
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

fn rule_resources(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.is_empty() {
        errors.required(at, "");
    }
    let listed: HashSet<&str> = at.texts().collect();
    for resource in at.items() {
        if resource.text().is_empty() {
            errors.required(&resource, "");
        }
        if let Some((name, sub)) = resource.text().split_once('/')
            && sub != "*"
            && name != "*"
            && listed.contains(format!("{name}/*").as_str())
        {
            errors.invalid(&resource, &format!("if '{name}/*' is present, must not specify {name}/{sub}"));
        }
    }
    if listed.len() > 1 && listed.contains("*/*") {
        errors.invalid(at, "if '*/*' is present, must not specify other resources");
    }
}

/// A `ValidatingAdmissionPolicy`.
pub(crate) fn validating_policy(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    let scope = policy_head(&spec, false, errors);
    let (validations, audits) = (spec.field("validations"), spec.field("auditAnnotations"));
    if validations.is_empty() && audits.is_empty() {
        for at in [&validations, &audits] {
            errors.required(at, "validations or auditAnnotations must contain at least one item");
        }
        return;
    }
    for validation in validations.items() {
        policy_validation(&validation, &scope, errors);
    }
    let mut keys = HashSet::new();
    for audit in audits.items() {
        let key = audit.field("key");
        if !keys.insert(key.text()) {
            errors.duplicate(&key);
        }
        if errors.require_text(&key) {
            errors.invalid_all(&key, rules::qualified_name(key.text()));
        }
        if audit.field("valueExpression").text().trim().is_empty() {
            errors.required(&audit.field("valueExpression"), "valueExpression is not specified");
        } else {
            compiles(&audit.field("valueExpression"), &scope, Wanted::TextOrNull, errors);
        }
    }
}

/// What both kinds of policies have; answers what their expressions may refer to.
fn policy_head(spec: &Node<'_, '_>, patches: bool, errors: &mut Errors) -> Scope {
    let failure = spec.field("failurePolicy");
    if failure.is_unset() {
        errors.required(&failure, "");
    } else {
        errors.one_of(&failure, &["Fail", "Ignore"]);
    }
    let kind = spec.field("paramKind");
    if kind.is_set() {
        errors.require_text(&kind.field("apiVersion"));
        errors.require_text(&kind.field("kind"));
    }
    let constraints = spec.field("matchConstraints");
    if constraints.is_unset() {
        errors.required(&constraints, "");
    } else {
        match_resources(&constraints, errors);
        if constraints.field("resourceRules").is_empty() {
            errors.required(&constraints.field("resourceRules"), "");
        }
    }
    let mut scope = Scope::default();
    scope.params = kind.is_set();
    match_conditions(&spec.field("matchConditions"), &scope, errors);
    scope.patches = patches;
    for variable in spec.field("variables").items() {
        policy_variable(&variable, &mut scope, errors);
    }
    scope
}

fn policy_variable(at: &Node<'_, '_>, scope: &mut Scope, errors: &mut Errors) {
    let (name, expression) = (at.field("name"), at.field("expression"));
    errors.require_text(&name);
    if expression.text().trim().is_empty() {
        errors.required(&expression, "expression is not specified");
        return;
    }
    match scope.compile(expression.text(), Wanted::Anything) {
        Ok(program) => scope.declare(name.text(), program.result_type()),
        Err(why) => errors.invalid(&expression, &why),
    }
}

fn match_resources(at: &Node<'_, '_>, errors: &mut Errors) {
    errors.none_or_one_of(&at.field("matchPolicy"), &["Equivalent", "Exact"]);
    meta::selector(&at.field("namespaceSelector"), errors);
    meta::selector(&at.field("objectSelector"), errors);
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in at.field(list).items() {
            rule_with_operations(&rule, errors);
        }
    }
}

fn policy_validation(at: &Node<'_, '_>, scope: &Scope, errors: &mut Errors) {
    let (expression, message) = (at.field("expression"), at.field("message"));
    if expression.text().trim().is_empty() {
        errors.required(&expression, "expression is not specified");
    } else {
        compiles(&expression, scope, Wanted::Bool, errors);
    }
    let by_expression = at.field("messageExpression");
    if !by_expression.text().trim().is_empty() {
        compiles(&by_expression, scope, Wanted::Text, errors);
    }
    if !message.text().is_empty() && message.text().trim().is_empty() {
        errors.invalid(&message, "message must be non-empty if specified");
    } else if message.text().trim().contains('\n') {
        errors.invalid(&message, "must not contain line breaks");
    } else if message.text().trim().is_empty() && expression.text().contains('\n') {
        errors.required(&message, "message must be specified if expression contains line breaks");
    }
    errors.none_or_one_of(&at.field("reason"), &["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"]);
}

/// A `MutatingAdmissionPolicy`.
pub(crate) fn mutating_policy(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    let scope = policy_head(&spec, true, errors);
    let mutations = spec.field("mutations");
    if mutations.is_empty() {
        errors.required(&mutations, "mutations must contain at least one item");
    }
    for mutation in mutations.items() {
        let kind = mutation.field("patchType");
        let (field, wanted) = match kind.text() {
            "ApplyConfiguration" => ("applyConfiguration", Wanted::Configuration),
            "JSONPatch" => ("jsonPatch", Wanted::Patch),
            _ => {
                if errors.require_text(&kind) {
                    errors.one_of(&kind, &["ApplyConfiguration", "JSONPatch"]);
                }
                continue;
            }
        };
        let body = mutation.field(field);
        if body.is_unset() {
            errors.required(&body, &format!("must be specified when patchType is {}", kind.text()));
        } else if body.field("expression").text().trim().is_empty() {
            errors.required(&body.field("expression"), "expression is not specified");
        } else {
            compiles(&body.field("expression"), &scope, wanted, errors);
        }
    }
    let reinvocation = spec.field("reinvocationPolicy");
    if reinvocation.text().is_empty() {
        errors.required(&reinvocation, "");
    } else {
        errors.one_of(&reinvocation, &["IfNeeded", "Never"]);
    }
}

/// A `ValidatingAdmissionPolicyBinding`.
pub(crate) fn validating_policy_binding(object: &Node<'_, '_>, errors: &mut Errors) {
    policy_binding(object, errors);
    let spec = object.field("spec");
    let actions = spec.field("validationActions");
    if actions.is_empty() {
        errors.required(&actions, "at least one validation action is required");
    }
    let mut seen = HashSet::new();
    for action in actions.items() {
        errors.one_of(&action, &["Audit", "Deny", "Warn"]);
        if !seen.insert(action.text()) {
            errors.duplicate(&action);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        errors.invalid(&actions, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
    }
}

/// A `MutatingAdmissionPolicyBinding`.
pub(crate) fn policy_binding(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    let name = spec.field("policyName");
    if errors.require_text(&name) {
        errors.invalid_all(&name, rules::subdomain(name.text()));
    }
    let parameters = spec.field("paramRef");
    if parameters.is_set() {
        let (by_name, selector) = (parameters.field("name"), parameters.field("selector"));
        match (!by_name.text().is_empty(), selector.is_set()) {
            (true, true) => errors.forbidden(&by_name, "name and selector are mutually exclusive"),
            (false, false) => errors.required(&parameters, "one of name or selector must be specified"),
            _ => meta::selector(&selector, errors),
        }
        let missing = parameters.field("parameterNotFoundAction");
        if missing.is_unset() {
            errors.required(&missing, "");
        } else {
            errors.one_of(&missing, &["Allow", "Deny"]);
        }
    }
    let resources = spec.field("matchResources");
    if resources.is_set() {
        match_resources(&resources, errors);
    }
}

/// An `APIService`, whose name follows from version and group.
pub(crate) fn api_service(object: &Node<'_, '_>, errors: &mut Errors) {
    let (metadata, spec) = (object.field("metadata"), object.field("spec"));
    let (group, version) = (spec.field("group"), spec.field("version"));
    let required = format!("{}.{}", version.text(), group.text());
    if metadata.field("name").text() != required {
        errors.invalid(&metadata.field("name"), &format!("must be `spec.version+\".\"+spec.group`: {required:?}"));
    }
    if !group.text().is_empty() {
        errors.invalid_all(&group, rules::subdomain(group.text()));
    } else if version.text() != "v1" {
        errors.required(&group, "only v1 may have an empty group and it better be legacy kube");
    }
    errors.invalid_all(&version, rules::dns1035_label(version.text()));
    for (key, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = spec.field(key);
        if priority.number() <= 0 || priority.number() > most {
            errors.invalid_value(&priority, priority.number(), &format!("must be positive and less than {most}"));
        }
    }
    let service = spec.field("service");
    if service.is_unset() {
        if !spec.field("caBundle").text().is_empty() {
            errors.invalid_value(
                &spec.field("caBundle"),
                format!("{} bytes", spec.field("caBundle").text().len()),
                "local APIServices may not have a caBundle",
            );
        }
        if spec.field("insecureSkipTLSVerify").is_true() {
            errors
                .invalid(&spec.field("insecureSkipTLSVerify"), "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    }
    for key in ["namespace", "name"] {
        errors.require_text(&service.field(key));
    }
    let port = service.field("port");
    if port.is_set() && !(1..=65535).contains(&port.number()) {
        errors.invalid(&port, "port is not valid: must be between 1 and 65535, inclusive");
    }
    if spec.field("insecureSkipTLSVerify").is_true() && !spec.field("caBundle").text().is_empty() {
        errors.invalid(&spec.field("insecureSkipTLSVerify"), "may not be true if caBundle is present");
    }
}
