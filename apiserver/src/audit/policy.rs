//! The audit policy: how much is recorded of which requests. The first rule about a request decides. Upstream:
//! `audit/policy`.

use std::path::Path;

use api::codec::yaml;
use api::names::dns1123_subdomain;
use api::strategy::User;
use serde::Deserialize;

use crate::request::info::RequestInfo;

/// How much is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// When an event is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// The policy.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Policy {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde_json::Value,
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

/// A rule; it is about everything that it does not mention.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Rule {
    level: Level,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Resources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            level: Level::None,
            users: Vec::new(),
            user_groups: Vec::new(),
            verbs: Vec::new(),
            resources: Vec::new(),
            namespaces: Vec::new(),
            non_resource_urls: Vec::new(),
            omit_stages: Vec::new(),
            omit_managed_fields: None,
        }
    }
}

/// Resources of one group.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Resources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What is recorded of a request.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) level: Level,
    pub(super) omit_stages: Vec<Stage>,
    pub(super) omit_managed_fields: bool,
}

impl Policy {
    /// Reads a file, or says why it is no policy.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let at = |why: String| format!("{}: {why}", path.display());
        let text = std::fs::read(path).map_err(|err| at(err.to_string()))?;
        Self::parse(&text).map_err(at)
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let (tree, duplicate) = yaml::parse(text).map_err(|err| err.to_string())?;
        if let Some(duplicate) = duplicate {
            return Err(duplicate.to_string());
        }
        let tree = tree.into_value();
        let levels = tree["rules"].as_array().into_iter().flatten().enumerate();
        let mut missing = levels.filter(|(_, rule)| rule.get("level").is_none_or(|level| level == ""));
        if let Some((at, rule)) = missing.next() {
            return Err(format!("rules[{at}].level: Required value ({rule})"));
        }
        let policy: Self = serde_json::from_value(tree).map_err(|err| err.to_string())?;
        policy.check().map(|()| policy)
    }

    fn check(&self) -> Result<(), String> {
        if (self.api_version.as_str(), self.kind.as_str()) != ("audit.k8s.io/v1", "Policy") {
            return Err(format!("{} {} is no audit.k8s.io/v1 Policy", self.api_version, self.kind));
        }
        if self.rules.is_empty() {
            return Err("there are no rules".to_owned());
        }
        let wrong = self.rules.iter().enumerate().find_map(|(at, rule)| Some((at, rule.check().err()?)));
        wrong.map_or(Ok(()), |(at, why)| Err(format!("rules[{at}]{why}")))
    }

    /// What is recorded of a request.
    pub(super) fn decide(&self, user: &User, info: &RequestInfo) -> Recorded {
        let Some(rule) = self.rules.iter().find(|rule| rule.is_about(user, info)) else {
            return Recorded { level: Level::None, omit_stages: Vec::new(), omit_managed_fields: false };
        };
        Recorded {
            level: rule.level,
            omit_stages: self.omit_stages.iter().chain(&rule.omit_stages).copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let is_of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if is_of_resources && !self.non_resource_urls.is_empty() {
            return Err(
                ".nonResourceURLs: rules cannot apply to both regular resources and non-resource URLs".to_owned()
            );
        }
        for (at, url) in self.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
            if !url.starts_with('/') {
                let why = "non-resource URL rules must begin with a '/' character";
                return Err(format!(".nonResourceURLs[{at}]: {url:?}: {why}"));
            }
            if url.trim_end_matches('*').contains('*') {
                let why = "non-resource URL wildcards '*' must be the final character of the rule";
                return Err(format!(".nonResourceURLs[{at}]: {url:?}: {why}"));
            }
        }
        for (at, resources) in self.resources.iter().enumerate() {
            let wrong = if resources.group.is_empty() { Vec::new() } else { dns1123_subdomain(&resources.group) };
            if let Some(why) = wrong.first() {
                return Err(format!(".resources[{at}].group: {:?}: {why}", resources.group));
            }
            if resources.resources.is_empty() && !resources.resource_names.is_empty() {
                let why = "using resourceNames requires at least one resource";
                return Err(format!(".resources[{at}].resourceNames: {why}"));
            }
        }
        Ok(())
    }

    fn is_about(&self, user: &User, info: &RequestInfo) -> bool {
        let open = |wanted: &[String], given: &str| wanted.is_empty() || wanted.iter().any(|one| one == given);
        let of_group = || self.user_groups.iter().any(|group| user.groups.contains(group));
        if !open(&self.users, &user.name) || !open(&self.verbs, info.verb()) {
            return false;
        }
        if !self.user_groups.is_empty() && !of_group() {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            let resource = || self.resources.is_empty() || self.resources.iter().any(|one| one.include(info));
            return info.is_resource && open(&self.namespaces, &info.namespace) && resource();
        }
        if self.non_resource_urls.is_empty() {
            return true;
        }
        let matches = |url: &String| match url.strip_suffix('*') {
            Some(beginning) => info.path.starts_with(beginning.trim_end_matches('*')),
            None => info.path == *url,
        };
        !info.is_resource && self.non_resource_urls.iter().any(matches)
    }
}

impl Resources {
    fn include(&self, info: &RequestInfo) -> bool {
        if self.group != info.group {
            return false;
        }
        if !self.resource_names.is_empty() && !self.resource_names.contains(&info.name) {
            return false;
        }
        let is_it = |wanted: &String| match wanted.split_once('/') {
            None => wanted == "*" || (*wanted == info.resource && info.subresource.is_empty()),
            Some(("*", sub)) => sub == info.subresource,
            Some((resource, "*")) => resource == info.resource,
            Some((resource, sub)) => (resource, sub) == (info.resource.as_str(), info.subresource.as_str()),
        };
        self.resources.is_empty() || self.resources.iter().any(is_it)
    }
}
