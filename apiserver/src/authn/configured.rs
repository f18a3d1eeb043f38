//! `AuthenticationConfiguration` of `apiserver.config.k8s.io` (`--authentication-config`): issuers of tokens (KEP-3331),
//! and where requests without credentials pass (KEP-4633). Issuers may change while the server runs.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::field::{FieldError, Path};
use daemon::{ConfigFile, ConfigFileError};
use serde::Deserialize;
use serde_json::Value;

use super::anonymous::{Anonymous, AnonymousPart};
use super::jwt::{self, JwtAuthenticator, OidcArgs, Settings, Source};
use crate::config::Config;
use crate::error::Error;
use crate::strict::{self, Shape};

const FLAG: &str = "authentication-config";
const KIND: &str = "AuthenticationConfiguration";
/// The fields of all are the same.
const VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];
const FILE: Shape = Shape::Fields(&[("jwt", Shape::List(&jwt::SHAPE)), ("anonymous", super::anonymous::SHAPE)]);

/// Who is trusted to name users, beside certificates and this server's own tokens.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct AuthenticationConfig {
    #[command(flatten)]
    pub oidc: OidcArgs,
    /// Issuers of tokens, and on which paths requests without credentials pass: an AuthenticationConfiguration.
    #[arg(id = "authentication-config", long)]
    pub file: Option<PathBuf>,
    /// How often the file is looked at.
    #[arg(skip = Duration::from_secs(60))]
    pub poll: Duration,
}

impl Default for AuthenticationConfig {
    fn default() -> Self {
        daemon::pflag::defaults()
    }
}

/// What flags or a file say.
#[derive(Default)]
pub(crate) struct Configured {
    pub(super) issuers: Vec<Settings>,
    /// As the file says, if it does.
    anonymous: Option<Anonymous>,
    pub(super) source: Option<Source>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    jwt: Option<Vec<JwtAuthenticator>>,
    anonymous: Option<AnonymousPart>,
}

impl Configured {
    /// What a configuration says.
    pub(crate) fn of(config: &Config) -> Result<Self, Error> {
        let AuthenticationConfig { file, poll, oidc } = &config.authentication;
        let own = &config.service_account_issuers;
        let Some(path) = file else { return Ok(Self { issuers: oidc.settings(own)?, ..Self::default() }) };
        let failed = |why: String| Error::Flag { flag: FLAG, why };
        if oidc.is_given() {
            return Err(failed("authentication-config file and oidc-* flags are mutually exclusive".to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(|err| failed(format!("read {}: {err}", path.display())))?;
        let file = File::read(path, &text).map_err(failed)?;
        if file.anonymous.is_some() && !config.anonymous_auth {
            let why = "--anonymous-auth flag cannot be set when anonymous field is configured in authentication \
                       configuration file";
            return Err(failed(FieldError::forbidden(&Path::new("anonymous"), why).to_string()));
        }
        let (issuers, anonymous, errors) = file.check(own);
        if !errors.is_empty() {
            return Err(failed(format!("{}: {}", path.display(), strict::together(&errors))));
        }
        let (known, own, part) = (path.clone(), own.clone(), file.anonymous);
        let read = Arc::new(move |text: &str| reread(&known, text, part.as_ref(), &own));
        let source = Source { path: path.clone(), poll: *poll, text, read };
        Ok(Self { issuers, anonymous, source: Some(source) })
    }

    /// Where requests without credentials pass, if the flag allows them.
    pub(crate) fn anonymous(&self, flag: bool) -> Anonymous {
        self.anonymous.clone().unwrap_or_else(|| flag.into())
    }
}

/// The issuers of another text of the file, in which nothing else may have changed.
fn reread(
    path: &FilePath,
    text: &str,
    anonymous: Option<&AnonymousPart>,
    own: &[String],
) -> Result<Vec<Settings>, String> {
    let file = File::read(path, text)?;
    let (issuers, _, mut errors) = file.check(own);
    if file.anonymous.as_ref() != anonymous {
        errors.push(FieldError::forbidden(&Path::new("anonymous"), "changed from initial configuration file"));
    }
    if errors.is_empty() { Ok(issuers) } else { Err(strict::together(&errors)) }
}

impl File {
    fn read(path: &FilePath, text: &str) -> Result<Self, String> {
        let flat = |err: ConfigFileError| format!("{:#}", anyhow::Error::from(err));
        let as_version = |version: &'static str| ConfigFile::parse(path, text, version, KIND);
        let mut file = as_version(VERSIONS[0]);
        for version in &VERSIONS[1..] {
            if let Err(ConfigFileError::Kind { .. }) = file
                && let Ok(other) = as_version(version)
            {
                file = Ok(other);
            }
        }
        let tree: Value = file.and_then(ConfigFile::decode).map_err(flat)?;
        strict::check(&tree, &FILE)?;
        serde_json::from_value(tree).map_err(|err| format!("{}: {err}", path.display()))
    }

    fn check(&self, own: &[String]) -> (Vec<Settings>, Option<Anonymous>, Vec<FieldError>) {
        let read = jwt::read(self.jwt.as_deref().unwrap_or_default(), own);
        let (issuers, mut errors) = read.map_or_else(|errors| (Vec::new(), errors), |issuers| (issuers, Vec::new()));
        let anonymous = self.anonymous.as_ref().and_then(|part| part.read(&mut errors));
        (issuers, anonymous, errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(directory: &tempfile::TempDir, text: &str) -> Config {
        let file = directory.path().join("authn.yaml");
        std::fs::write(&file, text).unwrap();
        let authentication = AuthenticationConfig { file: Some(file), ..AuthenticationConfig::default() };
        Config { authentication, ..Config::default() }
    }

    fn head(version: &str) -> String {
        format!("apiVersion: apiserver.config.k8s.io/{version}\nkind: AuthenticationConfiguration\n")
    }

    fn read(rest: &str) -> Result<Configured, String> {
        let directory = tempfile::tempdir().unwrap();
        Configured::of(&config(&directory, &(head("v1") + rest))).map_err(|err| err.to_string())
    }

    const ISSUER: &str =
        "jwt: [{issuer: {url: 'https://a', audiences: [us]}, claimMappings: {username: {claim: sub, prefix: ''}}}]";

    #[test]
    fn a_file_says_where_nobody_must_show_who_they_are() {
        let anonymous = |rest: &str| read(rest).unwrap().anonymous;
        assert_eq!(anonymous(""), None);
        assert_eq!(anonymous("anonymous: {enabled: true}"), Some(Anonymous::Everywhere));
        assert_eq!(anonymous("anonymous: {enabled: false}"), Some(Anonymous::Nowhere));
        let some = "anonymous: {enabled: true, conditions: [{path: /livez}]}";
        assert_eq!(anonymous(some), Some(Anonymous::On(vec!["/livez".into()])));
    }

    #[test]
    fn all_versions_are_read() {
        for version in ["v1", "v1beta1", "v1alpha1"] {
            let directory = tempfile::tempdir().unwrap();
            let configured = Configured::of(&config(&directory, &(head(version) + ISSUER))).unwrap();
            assert_eq!(configured.issuers.len(), 1, "{version}");
        }
        assert!(read("jwt:\n").unwrap().issuers.is_empty());
    }

    #[test]
    fn what_is_wrong_or_not_done_is_refused() {
        for (rest, wanted) in [
            ("anonymous: {conditions: [{path: /livez}]}", "enabled should be set to true when conditions are defined"),
            ("anonymous: {enabled: true, conditions: [{}]}", "anonymous.conditions[0].path: Required value"),
            ("anonymous: {enabled: true, condition: []}", "unknown field \"anonymous.condition\""),
            ("jwt: [{issuer: {url: 'https://a', audience: a}}]", "unknown field \"jwt[0].issuer.audience\""),
            ("jwt: [{claimMappings: {uid: {prefix: a}}}]", "unknown field \"jwt[0].claimMappings.uid.prefix\""),
            ("jwt: [{issuer: {url: 'https://a'}}]", "jwt[0].issuer.audiences: Required value"),
            ("jwt: [{issuer: {url: 7}}]", "invalid type: integer"),
            ("jwts: []", "unknown field \"jwts\""),
        ] {
            let err = read(rest).err().unwrap();
            assert!(err.contains(wanted), "{rest}: {err}");
        }
        let directory = tempfile::tempdir().unwrap();
        for (text, wanted) in [
            (head("v2"), "want apiVersion apiserver.config.k8s.io/v1"),
            ("kind: [".to_owned(), "authn.yaml"),
            (String::new(), "want apiVersion"),
        ] {
            let err = Configured::of(&config(&directory, &text)).err().unwrap().to_string();
            assert!(err.contains(wanted), "{err}");
        }
        let mut both = config(&directory, &(head("v1") + "anonymous: {enabled: true}"));
        both.anonymous_auth = false;
        assert!(Configured::of(&both).err().unwrap().to_string().contains("--anonymous-auth flag cannot be set"));
        let mut both = config(&directory, &head("v1"));
        both.authentication.oidc.oidc_client_id = Some("us".into());
        assert!(Configured::of(&both).err().unwrap().to_string().contains("mutually exclusive"));
    }

    #[test]
    fn another_file_may_name_other_issuers_and_nothing_else() {
        let source = read("anonymous: {enabled: true}").unwrap().source.unwrap();
        let reread = |rest: &str| (source.read)(&(head("v1") + rest)).map(|issuers| issuers.len());
        assert_eq!(reread(&format!("anonymous: {{enabled: true}}\n{ISSUER}")), Ok(1));
        assert_eq!(reread("anonymous: {enabled: true}"), Ok(0));
        for other in ["", "anonymous: {enabled: false}", "anonymous: {enabled: true, conditions: [{path: /livez}]}"] {
            let why = "anonymous: Forbidden: changed from initial configuration file";
            assert_eq!(reread(other), Err(why.to_owned()), "{other}");
        }
        assert!(reread("anonymous: {enabled: true}\njwt: [{}]").unwrap_err().contains("jwt[0].issuer.url"));
        let own = ISSUER.replace("https://a", "https://kubernetes.default.svc.cluster.local");
        let err = reread(&format!("anonymous: {{enabled: true}}\n{own}")).unwrap_err();
        assert!(err.contains("URL must not overlap with disallowed issuers"), "{err}");
    }
}
