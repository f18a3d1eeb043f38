//! `AuthorizationConfiguration` of `apiserver.config.k8s.io/v1` (`--authorization-config`, KEP-3221): authorizers in
//! order, webhooks among them, each with its options. The file is followed.

use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use api::field::{FieldError, Path};
use daemon::ConfigFile;
use serde::Deserialize;
use serde_json::Value;

use super::conditions::Conditions;
use super::webhook::{FailurePolicy, WebhookConfig};
use crate::outbound::review_version::ReviewVersion;
use crate::strict::{self, Shape};

const VERSION: &str = "apiserver.config.k8s.io/v1";
const KIND: &str = "AuthorizationConfiguration";
const TYPES: [&str; 5] = ["AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];

const WEBHOOK: Shape = Shape::Fields(&[
    ("authorizedTTL", Shape::Any),
    ("cacheAuthorizedRequests", Shape::Any),
    ("unauthorizedTTL", Shape::Any),
    ("cacheUnauthorizedRequests", Shape::Any),
    ("timeout", Shape::Any),
    ("subjectAccessReviewVersion", Shape::Any),
    ("matchConditionSubjectAccessReviewVersion", Shape::Any),
    ("failurePolicy", Shape::Any),
    ("connectionInfo", Shape::Fields(&[("type", Shape::Any), ("kubeConfigFile", Shape::Any)])),
    ("matchConditions", Shape::List(&Shape::Fields(&[("expression", Shape::Any)]))),
]);
const FILE: Shape = Shape::Fields(&[(
    "authorizers",
    Shape::List(&Shape::Fields(&[("type", Shape::Any), ("name", Shape::Any), ("webhook", WEBHOOK)])),
)]);

/// One authorizer of the file.
#[derive(Debug)]
pub(crate) enum Configured {
    /// Node, RBAC, AlwaysAllow or AlwaysDeny.
    Mode(String),
    Webhook(Box<WebhookConfig>),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    authorizers: Vec<FileAuthorizer>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileAuthorizer {
    #[serde(rename = "type")]
    type_: String,
    name: String,
    webhook: Option<FileWebhook>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FileWebhook {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    cache_unauthorized_requests: Option<bool>,
    timeout: Option<String>,
    subject_access_review_version: String,
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: FileConnection,
    match_conditions: Vec<FileCondition>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FileConnection {
    #[serde(rename = "type")]
    type_: String,
    kube_config_file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileCondition {
    expression: String,
}

/// Reads a file's text; the errors of upstream's validation are told together.
pub(crate) fn read(path: &FilePath, text: &str) -> Result<Vec<Configured>, String> {
    let flat = |err: daemon::ConfigFileError| format!("{:#}", anyhow::Error::from(err));
    let tree: Value = ConfigFile::parse(path, text, VERSION, KIND).and_then(ConfigFile::decode).map_err(flat)?;
    strict::check(&tree, &FILE)?;
    let file: File = serde_json::from_value(tree).map_err(|err| err.to_string())?;
    let root = Path::new("authorizers");
    let mut errors = Vec::new();
    if file.authorizers.is_empty() {
        errors.push(FieldError::required(&root, "at least one authorization mode must be defined"));
    }
    let mut read: Vec<Configured> = Vec::new();
    for (at, authorizer) in file.authorizers.iter().enumerate() {
        let path = root.index(at);
        let before = &file.authorizers[..at];
        errors.extend(check_names(authorizer, before, &path));
        match (&authorizer.webhook, authorizer.type_.as_str()) {
            (Some(webhook), "Webhook") => match webhook.read(&authorizer.name, &path.child("webhook")) {
                Ok(config) => read.push(Configured::Webhook(Box::new(config))),
                Err(wrong) => errors.extend(wrong),
            },
            (None, "Webhook") => {
                errors.push(FieldError::required(&path.child("webhook"), "required when type=Webhook"));
            }
            (Some(_), _) => {
                let why = "may only be specified when type=Webhook";
                errors.push(FieldError::invalid(&path.child("webhook"), "non-null", why));
            }
            (None, mode) => read.push(Configured::Mode(mode.to_owned())),
        }
    }
    if errors.is_empty() { Ok(read) } else { Err(strict::together(&errors)) }
}

fn check_names(one: &FileAuthorizer, before: &[FileAuthorizer], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (type_, name) = (path.child("type"), path.child("name"));
    match one.type_.as_str() {
        "" => errors.push(FieldError::required(&type_, "")),
        "ABAC" => errors.push(FieldError::forbidden(&type_, "there is no ABAC authoriser here")),
        given if !TYPES.contains(&given) => errors.push(FieldError::not_supported(&type_, given, &TYPES)),
        "Webhook" => {}
        given if before.iter().any(|other| other.type_ == given) => errors.push(FieldError::duplicate(&type_, given)),
        _ => {}
    }
    match one.name.as_str() {
        "" => errors.push(FieldError::required(&name, "")),
        given if before.iter().any(|other| other.name == given) => errors.push(FieldError::duplicate(&name, given)),
        given => {
            let wrong = api::names::dns1123_subdomain(given);
            errors.extend(
                wrong.first().map(|_| {
                    FieldError::invalid(&name, given, "authorizer name is invalid, must be a DNS1123 subdomain")
                }),
            );
        }
    }
    errors
}

impl FileWebhook {
    fn read(&self, name: &str, path: &Path) -> Result<WebhookConfig, Vec<FieldError>> {
        let mut errors = Vec::new();
        let timeout = duration(self.timeout.as_deref(), None, &path.child("timeout"), &mut errors);
        if timeout > Duration::from_secs(30) {
            let given = self.timeout.as_deref().unwrap_or_default();
            errors.push(FieldError::invalid(&path.child("timeout"), given, "must be <= 30s"));
        }
        let mut ttl = |given: &Option<String>, cached: Option<bool>, most, name: &str| {
            let life = duration(given.as_deref(), Some(Duration::from_secs(most)), &path.child(name), &mut errors);
            if cached == Some(false) { Duration::ZERO } else { life }
        };
        let authorized = ttl(&self.authorized_ttl, self.cache_authorized_requests, 300, "authorizedTTL");
        let unauthorized = ttl(&self.unauthorized_ttl, self.cache_unauthorized_requests, 30, "unauthorizedTTL");
        let version = self.version(path, &mut errors);
        let failure = match self.failure_policy.as_str() {
            "NoOpinion" => FailurePolicy::NoOpinion,
            "Deny" => FailurePolicy::Deny,
            given => {
                let path = path.child("failurePolicy");
                errors.push(if given.is_empty() {
                    FieldError::required(&path, "")
                } else {
                    FieldError::not_supported(&path, given, &["NoOpinion", "Deny"])
                });
                FailurePolicy::Deny
            }
        };
        let file = self.connection_info.file(&path.child("connectionInfo"), &mut errors);
        let conditions = self.conditions(path, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let name = name.to_owned();
        Ok(WebhookConfig { name, file, version, authorized, unauthorized, timeout, failure, conditions })
    }

    fn version(&self, path: &Path, errors: &mut Vec<FieldError>) -> ReviewVersion {
        let path = path.child("subjectAccessReviewVersion");
        match self.subject_access_review_version.as_str() {
            "" => errors.push(FieldError::required(&path, "")),
            given => match given.parse() {
                Ok(version) => return version,
                Err(_) => errors.push(FieldError::not_supported(&path, given, &["v1", "v1beta1"])),
            },
        }
        ReviewVersion::V1
    }

    fn conditions(&self, path: &Path, errors: &mut Vec<FieldError>) -> Conditions {
        let version = path.child("matchConditionSubjectAccessReviewVersion");
        match self.match_condition_subject_access_review_version.as_str() {
            "v1" => {}
            "" if self.match_conditions.is_empty() => {}
            "" => errors.push(FieldError::required(&version, "required if match conditions are specified")),
            given => errors.push(FieldError::not_supported(&version, given, &["v1"])),
        }
        let path = path.child("matchConditions");
        let mut conditions = Conditions::default();
        if self.match_conditions.len() > 64 {
            errors.push(FieldError::too_many(&path, self.match_conditions.len(), 64));
            return conditions;
        }
        for (at, condition) in self.match_conditions.iter().enumerate() {
            let path = path.index(at).child("expression");
            if condition.expression.trim().is_empty() {
                errors.push(FieldError::required(&path, ""));
            } else if let Err(why) = conditions.add(&condition.expression) {
                errors.push(FieldError::invalid(&path, condition.expression.as_str(), &why));
            }
        }
        conditions
    }
}

impl FileConnection {
    fn file(&self, path: &Path, errors: &mut Vec<FieldError>) -> Option<PathBuf> {
        let (type_, file) = (path.child("type"), path.child("kubeConfigFile"));
        match self.type_.as_str() {
            "KubeConfigFile" => match &self.kube_config_file {
                None => errors.push(FieldError::required(&file, "")),
                Some(given) if !given.is_absolute() => {
                    let given = given.display().to_string();
                    errors.push(FieldError::invalid(&file, given, "must be an absolute path"));
                }
                Some(given) => return Some(given.clone()),
            },
            "InClusterConfig" => {
                errors.push(FieldError::forbidden(&type_, "InClusterConfig is not supported: give a KubeConfigFile"));
            }
            "" => errors.push(FieldError::required(&type_, "")),
            given => errors.push(FieldError::not_supported(&type_, given, &["InClusterConfig", "KubeConfigFile"])),
        }
        None
    }
}

fn duration(given: Option<&str>, default: Option<Duration>, path: &Path, errors: &mut Vec<FieldError>) -> Duration {
    match given.map(daemon::pflag::duration) {
        None => {
            if default.is_none() {
                errors.push(FieldError::required(path, ""));
            }
            default.unwrap_or_default()
        }
        Some(Ok(length)) if !length.is_zero() => length,
        Some(_) => {
            errors.push(FieldError::invalid(path, given.unwrap_or_default(), "must be > 0s"));
            default.unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(authorizers: &str) -> Result<Vec<Configured>, String> {
        let text = format!("apiVersion: {VERSION}\nkind: {KIND}\nauthorizers: [{authorizers}]");
        read(FilePath::new("authz.yaml"), &text)
    }

    const GOOD: &str = "timeout: 3s, subjectAccessReviewVersion: v1, failurePolicy: Deny, \
                        connectionInfo: {type: KubeConfigFile, kubeConfigFile: /hook}";

    fn webhook(fields: &str) -> Result<Vec<Configured>, String> {
        file(&format!("{{type: Webhook, name: w, webhook: {{{fields}}}}}"))
    }

    #[test]
    fn authorizers_are_read_in_their_order() {
        let all = file(&format!(
            "{{type: Node, name: n}}, {{type: Webhook, name: w, webhook: {{{GOOD}, authorizedTTL: 1m, \
             cacheUnauthorizedRequests: false, matchConditionSubjectAccessReviewVersion: v1, \
             matchConditions: [{{expression: 'has(request.resourceAttributes)'}}]}}}}, {{type: RBAC, name: r}}"
        ))
        .unwrap();
        let [Configured::Mode(node), Configured::Webhook(hook), Configured::Mode(rbac)] = &all[..] else {
            panic!("{all:?}")
        };
        assert_eq!((node.as_str(), rbac.as_str(), hook.name.as_str()), ("Node", "RBAC", "w"));
        assert_eq!((hook.authorized.as_secs(), hook.unauthorized.as_secs()), (60, 0));
        assert_eq!((hook.timeout.as_secs(), hook.failure), (3, FailurePolicy::Deny));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |read: Result<Vec<Configured>, String>, wanted: &str| {
            let err = read.unwrap_err();
            assert!(err.contains(wanted), "{err}\n  wanted: {wanted}");
        };
        refused(file(""), "authorizers: Required value: at least one authorization mode must be defined");
        refused(file("{type: ABAC, name: a}"), "authorizers[0].type: Forbidden");
        refused(file("{type: Foo, name: a}"), "authorizers[0].type: Unsupported value: \"Foo\"");
        refused(file("{type: RBAC, name: a}, {type: RBAC, name: b}"), "authorizers[1].type: Duplicate value");
        refused(file("{type: RBAC, name: a}, {type: Node, name: a}"), "authorizers[1].name: Duplicate value");
        refused(file("{type: RBAC, name: A_}"), "must be a DNS1123 subdomain");
        refused(file("{type: Webhook, name: a}"), "authorizers[0].webhook: Required value: required when type=Webhook");
        refused(file("{type: RBAC, name: a, webhook: {}}"), "may only be specified when type=Webhook");
        refused(file("{type: RBAC, nam: a}"), "strict decoding error: unknown field \"authorizers[0].nam\"");
        refused(webhook(&GOOD.replace("3s", "31s")), "webhook.timeout: Invalid value: \"31s\": must be <= 30s");
        refused(webhook(&GOOD.replace("3s", "0s")), "webhook.timeout: Invalid value: \"0s\": must be > 0s");
        refused(webhook(&GOOD.replace("Deny", "Allow")), "webhook.failurePolicy: Unsupported value: \"Allow\"");
        refused(webhook(&GOOD.replace("v1", "v2")), "subjectAccessReviewVersion: Unsupported value: \"v2\"");
        refused(
            webhook(&GOOD.replace("/hook", "hook")),
            "kubeConfigFile: Invalid value: \"hook\": must be an absolute",
        );
        refused(webhook(&GOOD.replace("KubeConfigFile,", "InClusterConfig,")), "connectionInfo.type: Forbidden");
        let condition = |text: &str| {
            format!("{GOOD}, matchConditionSubjectAccessReviewVersion: v1, matchConditions: [{{expression: '{text}'}}]")
        };
        refused(webhook(&condition("1")), "matchConditions[0].expression: Invalid value: \"1\": must evaluate to bool");
        refused(webhook(&condition("request.nope == 1")), "compilation failed");
        refused(
            webhook(&format!("{GOOD}, matchConditions: [{{expression: 'true'}}]")),
            "required if match conditions are specified",
        );
    }
}
