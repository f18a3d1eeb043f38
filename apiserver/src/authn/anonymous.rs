//! Who may come without credentials: everybody, nobody, or everybody on some paths (KEP-4633), as the flag or an
//! `AuthenticationConfiguration` of `apiserver.config.k8s.io/v1` says.

use std::path::Path as FilePath;

use api::field::{FieldError, Path};
use daemon::ConfigFile;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::Config;
use crate::error::Error;
use crate::strict::{self, Shape};

const FLAG: &str = "authentication-config";
const FILE: Shape = Shape::Fields(&[
    ("jwt", Shape::Any),
    (
        "anonymous",
        Shape::Fields(&[("enabled", Shape::Any), ("conditions", Shape::List(&Shape::Fields(&[("path", Shape::Any)])))]),
    ),
]);

/// Where requests without credentials pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anonymous {
    Nowhere,
    Everywhere,
    /// On just these paths.
    On(Vec<String>),
}

impl From<bool> for Anonymous {
    fn from(allowed: bool) -> Self {
        if allowed { Self::Everywhere } else { Self::Nowhere }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    jwt: Vec<Value>,
    anonymous: Option<FileAnonymous>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileAnonymous {
    enabled: bool,
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    path: String,
}

impl Anonymous {
    /// What a configuration says.
    pub(crate) fn of(config: &Config) -> Result<Self, Error> {
        let flag = Self::from(config.anonymous_auth);
        let Some(path) = &config.authentication_config else { return Ok(flag) };
        let failed = |why: String| Error::Flag { flag: FLAG, why };
        let text = std::fs::read_to_string(path).map_err(|err| failed(format!("read {}: {err}", path.display())))?;
        match Self::read(path, &text).map_err(failed)? {
            Some(_) if flag == Self::Nowhere => {
                let why = "anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is configured in \
                           authentication configuration file";
                Err(failed(why.to_owned()))
            }
            read => Ok(read.unwrap_or(flag)),
        }
    }

    fn read(path: &FilePath, text: &str) -> Result<Option<Self>, String> {
        let version = "apiserver.config.k8s.io/v1";
        let file = ConfigFile::parse(path, text, version, "AuthenticationConfiguration").and_then(ConfigFile::decode);
        let tree: Value = file.map_err(|err| format!("{:#}", anyhow::Error::from(err)))?;
        strict::check(&tree, &FILE)?;
        let file: File = serde_json::from_value(tree).map_err(|err| err.to_string())?;
        if !file.jwt.is_empty() {
            return Err(
                "jwt: Forbidden: there is no authenticator for JSON web tokens of other issuers here".to_owned()
            );
        }
        let Some(FileAnonymous { enabled, conditions }) = file.anonymous else { return Ok(None) };
        let at = Path::new("anonymous").child("conditions");
        let paths: Vec<String> = conditions.into_iter().map(|condition| condition.path).collect();
        if !enabled && !paths.is_empty() {
            let why = "enabled should be set to true when conditions are defined";
            return Err(FieldError::invalid(&at, json!(paths), why).to_string());
        }
        if let Some(empty) = paths.iter().position(String::is_empty) {
            return Err(FieldError::required(&at.index(empty).child("path"), "").to_string());
        }
        Ok(Some(if paths.is_empty() { Self::from(enabled) } else { Self::On(paths) }))
    }

    /// Whether a request for a path passes.
    pub(crate) fn passes(&self, path: &str) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Everywhere => true,
            Self::On(paths) => paths.iter().any(|allowed| allowed == path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rest: &str) -> Result<Option<Anonymous>, String> {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";
        Anonymous::read(FilePath::new("authn.yaml"), &format!("{head}{rest}"))
    }

    #[test]
    fn a_file_says_where_nobody_must_show_who_they_are() {
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("anonymous: {enabled: true}"), Ok(Some(Anonymous::Everywhere)));
        assert_eq!(read("anonymous: {enabled: false}"), Ok(Some(Anonymous::Nowhere)));
        let some = read("anonymous: {enabled: true, conditions: [{path: /livez}, {path: /readyz}]}").unwrap().unwrap();
        for (path, passes) in
            [("/livez", true), ("/readyz", true), ("/livez/ping", false), ("/", false), ("/livez/", false)]
        {
            assert_eq!(some.passes(path), passes, "{path}");
        }
    }

    #[test]
    fn what_is_wrong_or_not_done_is_refused() {
        for (rest, wanted) in [
            ("anonymous: {conditions: [{path: /livez}]}", "enabled should be set to true when conditions are defined"),
            ("anonymous: {enabled: true, conditions: [{}]}", "anonymous.conditions[0].path: Required value"),
            ("anonymous: {enabled: true, condition: []}", "unknown field \"anonymous.condition\""),
            ("jwt: [{issuer: {url: 'https://a'}}]", "jwt: Forbidden"),
            ("jwts: []", "unknown field \"jwts\""),
        ] {
            let err = read(rest).unwrap_err();
            assert!(err.contains(wanted), "{rest}: {err}");
        }
    }
}
