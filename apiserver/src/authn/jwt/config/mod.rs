//! Issuers of a configuration, checked as upstream checks them (`apis/apiserver/validation`).

use api::field::{FieldError, Path};

use super::file::{Issuer, JwtAuthenticator};
use super::keys::{ALGORITHMS, Algorithm, algorithm};
use super::mapping::Mapping;
use super::rules;
use crate::outbound::webhooks::roots;

/// A configuration has no more issuers.
const MOST_ISSUERS: usize = 64;
/// Where an issuer describes itself, below its own URL.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// An issuer that can be asked.
#[derive(Clone, Debug)]
pub(in crate::authn) struct Settings {
    pub(super) url: String,
    /// The whole URL of the document in which it describes itself.
    pub(super) discovery: String,
    /// PEM; without it the system's roots count.
    pub(super) authority: Option<String>,
    pub(super) audiences: Vec<String>,
    pub(super) algorithms: Vec<&'static Algorithm>,
    pub(super) mapping: Mapping,
}

/// Reads issuers; all that is wrong with them is told. `own` are the issuers of ServiceAccount tokens.
pub(in crate::authn) fn read(
    authenticators: &[JwtAuthenticator],
    own: &[String],
) -> Result<Vec<Settings>, Vec<FieldError>> {
    let root = Path::new("jwt");
    if authenticators.len() > MOST_ISSUERS {
        return Err(vec![FieldError::too_many(&root, authenticators.len(), MOST_ISSUERS)]);
    }
    let (mut settings, mut errors) = (Vec::new(), Vec::new());
    for (at, authenticator) in authenticators.iter().enumerate() {
        let (path, issuer) = (root.index(at), &authenticator.issuer);
        settings.extend(authenticator.read(own, &path, &mut errors));
        let before = authenticators[..at].iter().map(|authenticator| &authenticator.issuer);
        let path = path.child("issuer");
        if before.clone().any(|other| other.url == issuer.url) {
            errors.push(FieldError::duplicate(&path.child("url"), issuer.url.as_str()));
        }
        let discovery = &issuer.discovery_url;
        if !discovery.is_empty() && before.clone().any(|other| other.discovery_url == *discovery) {
            errors.push(FieldError::duplicate(&path.child("discoveryURL"), discovery.as_str()));
        }
    }
    if errors.is_empty() { Ok(settings) } else { Err(errors) }
}

impl JwtAuthenticator {
    fn read(&self, own: &[String], path: &Path, errors: &mut Vec<FieldError>) -> Option<Settings> {
        self.issuer.check(own, &path.child("issuer"), errors);
        let mapping = rules::compile(self, path, errors)?;
        let Issuer { url, discovery_url, certificate_authority, audiences, .. } = &self.issuer;
        let discovery = match discovery_url.as_str() {
            "" => format!("{}{WELL_KNOWN}", url.strip_suffix('/').unwrap_or(url)),
            given => given.to_owned(),
        };
        let authority = Some(certificate_authority.clone()).filter(|pem| !pem.is_empty());
        let (url, audiences) = (url.clone(), audiences.clone());
        Some(Settings { url, discovery, authority, audiences, algorithms: ALGORITHMS.iter().collect(), mapping })
    }
}

impl Settings {
    /// With just these algorithms; the error names the first that there is not.
    pub(super) fn with_algorithms(mut self, names: &[String]) -> Result<Self, String> {
        let known = |name: &String| algorithm(name).ok_or_else(|| format!("unsupported signing alg: {name:?}"));
        self.algorithms = names.iter().map(known).collect::<Result<_, _>>()?;
        Ok(self)
    }
}

impl Issuer {
    fn check(&self, own: &[String], path: &Path, errors: &mut Vec<FieldError>) {
        let at = path.child("url");
        if self.url.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else {
            if own.contains(&self.url) {
                let mut own = own.to_vec();
                own.sort();
                let why = format!("URL must not overlap with disallowed issuers: [{}]", own.join(" "));
                errors.push(FieldError::invalid(&at, self.url.as_str(), &why));
            }
            check_url(&self.url, &at, errors);
        }
        let (at, discovery) = (path.child("discoveryURL"), self.discovery_url.as_str());
        if !discovery.is_empty() {
            if !self.url.is_empty() && self.url.trim_end_matches('/') == discovery.trim_end_matches('/') {
                errors.push(FieldError::invalid(&at, discovery, "discoveryURL must be different from URL"));
            }
            check_url(discovery, &at, errors);
        }
        self.check_audiences(path, errors);
        let authority = self.certificate_authority.as_bytes();
        if !authority.is_empty() && roots(Some(authority)).is_err() {
            let why = "data does not contain any valid RSA or ECDSA certificates";
            errors.push(FieldError::invalid(&path.child("certificateAuthority"), "<omitted>", why));
        }
        let at = path.child("egressSelectorType");
        match self.egress_selector_type.as_str() {
            "" => {}
            "controlplane" | "cluster" => errors.push(FieldError::forbidden(&at, "there is no egress selector here")),
            other => {
                let why = "egress selector must be either controlplane or cluster";
                errors.push(FieldError::invalid(&at, other, why));
            }
        }
    }

    fn check_audiences(&self, path: &Path, errors: &mut Vec<FieldError>) {
        let (audiences, policy) = (path.child("audiences"), self.audience_match_policy.as_str());
        if self.audiences.is_empty() {
            errors.push(FieldError::required(&audiences, &format!("at least one {audiences} is required")));
            return;
        }
        for (at, audience) in self.audiences.iter().enumerate() {
            let path = audiences.index(at);
            if audience.is_empty() {
                errors.push(FieldError::required(&path, ""));
            }
            if self.audiences[..at].contains(audience) {
                errors.push(FieldError::duplicate(&path, audience.as_str()));
            }
        }
        let why = match (self.audiences.len(), policy) {
            (_, "MatchAny") | (1, "") => return,
            (1, _) => "audienceMatchPolicy must be empty or MatchAny for single audience",
            _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
        };
        errors.push(FieldError::invalid(&path.child("audienceMatchPolicy"), policy, why));
    }
}

fn check_url(text: &str, path: &Path, errors: &mut Vec<FieldError>) {
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", rest));
    let authority = rest.split('/').next().unwrap_or("");
    let mut wrong = Vec::new();
    if !scheme.eq_ignore_ascii_case("https") {
        wrong.push("URL scheme must be https");
    }
    if authority.contains('@') {
        wrong.push("URL must not contain a username or password");
    }
    if !query.is_empty() {
        wrong.push("URL must not contain a query");
    }
    if !fragment.is_empty() {
        wrong.push("URL must not contain a fragment");
    }
    let parsed = text.parse::<http::Uri>();
    if wrong.is_empty() && !parsed.is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty())) {
        wrong.push("URL must name a host, and be made of the characters of URLs");
    }
    errors.extend(wrong.into_iter().map(|why| FieldError::invalid(path, text, why)));
}

#[cfg(test)]
mod tests;
