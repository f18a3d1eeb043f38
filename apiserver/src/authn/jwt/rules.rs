//! Claim mappings and validation rules of a configuration: checked as upstream checks them, and compiled once.

use api::field::{FieldError, Path};
use api::names;

use super::file::{
    ClaimMappings, ClaimOrExpression, ClaimValidationRule, ExtraMapping, JwtAuthenticator, UserValidationRule,
};
use super::mapping::{Expression, Mapping, Rule, Source};

type Errors = Vec<FieldError>;

/// The mapping of an issuer; `None` when something in it is wrong, which has been told then.
pub(super) fn compile(authenticator: &JwtAuthenticator, path: &Path, errors: &mut Errors) -> Option<Mapping> {
    let told = errors.len();
    let mappings = &authenticator.claim_mappings;
    let (required, claim_rules) =
        claim_rules(&authenticator.claim_validation_rules, &path.child("claimValidationRules"), errors);
    let path_of_mappings = path.child("claimMappings");
    let username = source(&mappings.username, &path_of_mappings.child("username"), errors);
    if username.is_none() && mappings.username.is_empty() {
        errors.push(FieldError::required(&path_of_mappings.child("username"), "claim or expression is required"));
    }
    let groups = source(&mappings.groups, &path_of_mappings.child("groups"), errors);
    let uid = uid(&mappings.uid, &path_of_mappings.child("uid"), errors);
    let extra = extra(&mappings.extra, &path_of_mappings.child("extra"), errors);
    check_email(mappings, username.as_ref(), &extra, &claim_rules, &path_of_mappings, errors);
    let user_rules = user_rules(&authenticator.user_validation_rules, &path.child("userValidationRules"), errors);
    let mapping = Mapping { username: username?, groups, uid, extra, required, claim_rules, user_rules };
    (errors.len() == told).then_some(mapping)
}

impl ClaimOrExpression {
    fn is_empty(&self) -> bool {
        self.claim.is_empty() && self.expression.is_empty()
    }
}

/// Keeps what has been compiled, or tells why it could not be.
fn told<T>(outcome: Result<T, String>, text: &str, path: &Path, errors: &mut Errors) -> Option<T> {
    outcome.map_err(|why| errors.push(FieldError::invalid(path, text, &why))).ok()
}

fn claim_rules(rules: &[ClaimValidationRule], path: &Path, errors: &mut Errors) -> (Vec<(String, String)>, Vec<Rule>) {
    let (mut required, mut compiled) = (Vec::new(), Vec::new());
    for (at, rule) in rules.iter().enumerate() {
        let (path, before) = (path.index(at), &rules[..at]);
        let ClaimValidationRule { claim, required_value, expression, message } = rule;
        match (claim.as_str(), expression.as_str()) {
            ("", "") => errors.push(FieldError::required(&path, "claim or expression is required")),
            (claim, "") => {
                if !message.is_empty() {
                    let why = "may not be specified when claim is set";
                    errors.push(FieldError::invalid(&path.child("message"), message.as_str(), why));
                }
                if before.iter().any(|other| other.claim == claim && other.expression.is_empty()) {
                    errors.push(FieldError::duplicate(&path.child("claim"), claim));
                }
                required.push((claim.to_owned(), required_value.clone()));
            }
            ("", text) => {
                if !required_value.is_empty() {
                    let why = "may not be specified when expression is set";
                    errors.push(FieldError::invalid(&path.child("requiredValue"), required_value.as_str(), why));
                }
                let path = path.child("expression");
                if before.iter().any(|other| other.expression == text && other.claim.is_empty()) {
                    errors.push(FieldError::duplicate(&path, text));
                    continue;
                }
                let condition = Expression::of_claims(text).and_then(Expression::condition);
                let condition = told(condition, text, &path, errors);
                compiled.extend(condition.map(|expression| Rule { expression, message: message.clone() }));
            }
            (claim, _) => errors.push(FieldError::invalid(&path, claim, "claim and expression can't both be set")),
        }
    }
    (required, compiled)
}

fn user_rules(rules: &[UserValidationRule], path: &Path, errors: &mut Errors) -> Vec<Rule> {
    let mut compiled = Vec::new();
    for (at, UserValidationRule { expression: text, message }) in rules.iter().enumerate() {
        let path = path.index(at).child("expression");
        if text.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if rules[..at].iter().any(|other| other.expression == *text) {
            errors.push(FieldError::duplicate(&path, text.as_str()));
        } else {
            let condition = told(Expression::of_user(text), text, &path, errors);
            compiled.extend(condition.map(|expression| Rule { expression, message: message.clone() }));
        }
    }
    compiled
}

/// Where a user name or groups come from.
fn source(given: &ClaimOrExpression, path: &Path, errors: &mut Errors) -> Option<Source> {
    match (given.claim.as_str(), given.expression.as_str()) {
        ("", "") => None,
        (claim, "") => {
            let Some(prefix) = &given.prefix else {
                let why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
                errors.push(FieldError::required(&path.child("prefix"), why));
                return None;
            };
            Some(Source::Claim { name: claim.to_owned(), prefix: prefix.clone() })
        }
        ("", text) => {
            if let Some(prefix) = &given.prefix {
                let why = "may not be specified when expression is set";
                errors.push(FieldError::invalid(&path.child("prefix"), prefix.as_str(), why));
            }
            told(Expression::of_claims(text), text, &path.child("expression"), errors).map(Source::Expression)
        }
        _ => {
            errors.push(FieldError::invalid(path, "", "claim and expression can't both be set"));
            None
        }
    }
}

fn uid(given: &ClaimOrExpression, path: &Path, errors: &mut Errors) -> Option<Source> {
    let prefix = (!given.claim.is_empty()).then(String::new);
    let given = ClaimOrExpression { prefix, claim: given.claim.clone(), expression: given.expression.clone() };
    source(&given, path, errors)
}

fn extra(mappings: &[ExtraMapping], path: &Path, errors: &mut Errors) -> Vec<(String, Expression)> {
    let mut compiled = Vec::new();
    for (at, ExtraMapping { key, value_expression: text }) in mappings.iter().enumerate() {
        let (key_path, path) = (path.index(at).child("key"), path.index(at).child("valueExpression"));
        check_key(key, &key_path, errors);
        if mappings[..at].iter().any(|other| other.key == *key) {
            errors.push(FieldError::duplicate(&key_path, key.as_str()));
        } else if text.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else {
            let expression = told(Expression::of_claims(text), text, &path, errors);
            compiled.extend(expression.map(|expression| (key.clone(), expression)));
        }
    }
    compiled
}

/// `example.org/foo`: keys belong to somebody, and Kubernetes keeps its own.
fn check_key(key: &str, path: &Path, errors: &mut Errors) {
    let domain = match key.split_once('/') {
        _ if key.is_empty() => {
            errors.push(FieldError::required(path, ""));
            ""
        }
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            errors.extend(names::dns1123_subdomain(domain).iter().map(|why| FieldError::invalid(path, domain, why)));
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
            if !rest.bytes().all(fits) {
                let why = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
                errors.push(FieldError::invalid(path, rest, why));
            }
            domain
        }
        _ => {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(FieldError::invalid(path, key, why));
            ""
        }
    };
    if key != key.to_lowercase() {
        errors.push(FieldError::invalid(path, key, "must be lowercase"));
    }
    let reserved = |of: &str| domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    if reserved("kubernetes.io") || reserved("k8s.io") {
        let why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
        errors.push(FieldError::invalid(path, key, why));
    }
}

/// Who names users by their address must look at whether it was verified.
fn check_email(
    mappings: &ClaimMappings,
    username: Option<&Source>,
    extra: &[(String, Expression)],
    rules: &[Rule],
    path: &Path,
    errors: &mut Errors,
) {
    let Some(Source::Expression(username)) = username else { return };
    let elsewhere = extra.iter().map(|(_, expression)| expression).chain(rules.iter().map(|rule| &rule.expression));
    let is_verified = std::iter::once(username).chain(elsewhere).any(|expression| expression.selects("email_verified"));
    if username.selects("email") && !is_verified {
        let why = "claims.email_verified must be used in claimMappings.username.expression or \
                   claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used \
                   in claimMappings.username.expression";
        let path = path.child("username").child("expression");
        errors.push(FieldError::invalid(&path, mappings.username.expression.as_str(), why));
    }
}
