//! `--oidc-*`: one issuer by flags.

use std::path::PathBuf;

use super::config::{self, Settings};
use super::file::{ClaimMappings, ClaimOrExpression, ClaimValidationRule, Issuer, JwtAuthenticator};
use crate::error::Error;

/// The algorithm that every issuer must know.
const DEFAULT_ALGORITHM: &str = "RS256";

/// One issuer of OpenID Connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct OidcArgs {
    /// URL of an issuer whose tokens name users, with https.
    #[arg(long)]
    pub oidc_issuer_url: Option<String>,
    /// The audience that its tokens must have.
    #[arg(long)]
    pub oidc_client_id: Option<String>,
    /// CA of the issuer's certificate; without it the system's roots count.
    #[arg(long)]
    pub oidc_ca_file: Option<PathBuf>,
    /// The claim that is the user name; sub if nothing is said.
    #[arg(long)]
    pub oidc_username_claim: Option<String>,
    /// What user names begin with; the issuer and # if nothing is said and the claim is not email, nothing for -.
    #[arg(long)]
    pub oidc_username_prefix: Option<String>,
    /// The claim that lists the groups.
    #[arg(long)]
    pub oidc_groups_claim: Option<String>,
    /// What groups begin with.
    #[arg(long)]
    pub oidc_groups_prefix: Option<String>,
    /// Algorithms that tokens may be signed with, separated by commas; RS256 if nothing is said.
    #[arg(long, value_delimiter = ',')]
    pub oidc_signing_algs: Vec<String>,
    /// A claim that tokens must have, as CLAIM=VALUE. May be given again.
    #[arg(long, value_parser = pair)]
    pub oidc_required_claim: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (claim, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not CLAIM=VALUE"))?;
    Ok((claim.trim().to_owned(), value.to_owned()))
}

impl OidcArgs {
    /// Whether one of the flags was given.
    pub(in crate::authn) fn is_given(&self) -> bool {
        *self != Self::default()
    }

    /// The issuer that the flags describe, if one does.
    pub(in crate::authn) fn settings(&self, own: &[String]) -> Result<Vec<Settings>, Error> {
        if !self.is_given() {
            return Ok(Vec::new());
        }
        let flag = |flag: &'static str| move |why: String| Error::Flag { flag, why };
        let (Some(url), Some(client)) = (&self.oidc_issuer_url, &self.oidc_client_id) else {
            let why = "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set";
            return Err(flag("oidc-issuer-url")(why.to_owned()));
        };
        let authority = self.oidc_ca_file.as_ref().map(|path| {
            std::fs::read_to_string(path).map_err(|err| flag("oidc-ca-file")(format!("read {}: {err}", path.display())))
        });
        let authenticator = self.authenticator(url, client, authority.transpose()?.unwrap_or_default());
        let settings = config::read(&[authenticator], own)
            .map_err(|errors| flag("oidc-issuer-url")(crate::strict::together(&errors)))?;
        let default = [DEFAULT_ALGORITHM.to_owned()];
        let names = if self.oidc_signing_algs.is_empty() { &default[..] } else { &self.oidc_signing_algs };
        let only = |settings: Settings| settings.with_algorithms(names).map_err(flag("oidc-signing-algs"));
        settings.into_iter().map(only).collect()
    }

    fn authenticator(&self, url: &str, client: &str, authority: String) -> JwtAuthenticator {
        let claim = self.oidc_username_claim.as_deref().unwrap_or("sub");
        let prefix = match self.oidc_username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) => prefix.to_owned(),
            None if claim == "email" => String::new(),
            None => format!("{url}#"),
        };
        let mapping = |claim: &str, prefix: String| ClaimOrExpression {
            claim: claim.to_owned(),
            prefix: Some(prefix),
            expression: String::new(),
        };
        let groups = self.oidc_groups_claim.as_deref();
        let groups = groups.map(|claim| mapping(claim, self.oidc_groups_prefix.clone().unwrap_or_default()));
        // The last of several values of a claim counts.
        let mut required: Vec<ClaimValidationRule> = Vec::new();
        for (claim, value) in &self.oidc_required_claim {
            required.retain(|rule| rule.claim != *claim);
            let (claim, required_value) = (claim.clone(), value.clone());
            required.push(ClaimValidationRule { claim, required_value, ..ClaimValidationRule::default() });
        }
        JwtAuthenticator {
            issuer: Issuer {
                url: url.to_owned(),
                audiences: vec![client.to_owned()],
                certificate_authority: authority,
                ..Issuer::default()
            },
            claim_validation_rules: required,
            claim_mappings: ClaimMappings {
                username: mapping(claim, prefix),
                groups: groups.unwrap_or_default(),
                ..ClaimMappings::default()
            },
            ..JwtAuthenticator::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        oidc: OidcArgs,
    }

    fn settings(flags: &[&str]) -> Result<Vec<Settings>, String> {
        let line = Line::try_parse_from([&["x"], flags].concat()).map_err(|err| err.to_string())?;
        line.oidc.settings(&["https://own".to_owned()]).map_err(|err| err.to_string())
    }

    const ISSUER: [&str; 2] = ["--oidc-issuer-url=https://a/b/", "--oidc-client-id=us"];

    fn one(flags: &[&str]) -> Settings {
        settings(&[&ISSUER, flags].concat()).unwrap().remove(0)
    }

    #[test]
    fn flags_describe_one_issuer() {
        assert!(settings(&[]).unwrap().is_empty());
        let plain = one(&[]);
        assert_eq!(plain.discovery, "https://a/b/.well-known/openid-configuration");
        assert_eq!(plain.audiences, ["us"]);
        let names = |settings: &Settings| settings.algorithms.iter().map(|it| it.name).collect::<Vec<_>>();
        assert_eq!(names(&plain), ["RS256"]);
        assert_eq!(names(&one(&["--oidc-signing-algs=ES256,PS512"])), ["ES256", "PS512"]);
        let claims = json!({"sub": "jane", "email": "a@b", "groups": ["dev"], "hd": "x=y"});
        let user = |flags: &[&str]| one(flags).mapping.user(&claims).map(|user| (user.name, user.groups));
        let named = |name: &str| Ok((name.to_owned(), Vec::new()));
        assert_eq!(user(&[]), named("https://a/b/#jane"));
        assert_eq!(user(&["--oidc-username-prefix=-"]), named("jane"));
        assert_eq!(user(&["--oidc-username-prefix=o:"]), named("o:jane"));
        assert_eq!(user(&["--oidc-username-claim=email"]), named("a@b"));
        assert_eq!(user(&["--oidc-required-claim=hd=1", "--oidc-required-claim=hd=x=y"]), named("https://a/b/#jane"));
        assert!(user(&["--oidc-required-claim=hd=x"]).unwrap_err().contains("does not match"));
        let groups = user(&["--oidc-groups-claim=groups", "--oidc-groups-prefix=g:"]).unwrap().1;
        assert_eq!(groups, ["g:dev"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (flags, wanted) in [
            (vec!["--oidc-client-id=us"], "must be specified together"),
            (vec!["--oidc-groups-claim=groups"], "must be specified together"),
            (vec!["--oidc-issuer-url=http://a", "--oidc-client-id=us"], "jwt[0].issuer.url"),
            (vec!["--oidc-issuer-url=https://own", "--oidc-client-id=us"], "must not overlap"),
            ([&ISSUER[..], &["--oidc-signing-algs=HS256"]].concat(), "unsupported signing alg: \"HS256\""),
            ([&ISSUER[..], &["--oidc-signing-algs=none"]].concat(), "unsupported signing alg: \"none\""),
            ([&ISSUER[..], &["--oidc-ca-file=/nowhere/ca"]].concat(), "--oidc-ca-file: read /nowhere/ca"),
            ([&ISSUER[..], &["--oidc-ca-file=/dev/null"]].concat(), ""),
            ([&ISSUER[..], &["--oidc-required-claim=hd"]].concat(), "is not CLAIM=VALUE"),
        ] {
            match settings(&flags) {
                Ok(_) => assert_eq!(wanted, "", "{flags:?}"),
                Err(err) => assert!(err.contains(wanted), "{flags:?}: {err}"),
            }
        }
    }
}
