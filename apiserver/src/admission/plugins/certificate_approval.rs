//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may approve and sign for a signer, and
//! what nobody may ask for.

use std::sync::Arc;

use api::{ApiError, Object};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use crate::admission::{Attributes, Operation, ValidatingAdmission, Warnings};
use crate::authz::{self, Chain, MASTERS};

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// CertificateApproval and CertificateSigning: changes of one subresource need a verb on the signer.
pub struct SignerPermission {
    plugin: &'static str,
    subresource: &'static str,
    verb: &'static str,
    authz: Arc<Chain>,
}

impl SignerPermission {
    /// CertificateApproval.
    pub fn approval(authz: Arc<Chain>) -> Self {
        Self { plugin: "CertificateApproval", subresource: "approval", verb: "approve", authz }
    }

    /// CertificateSigning.
    pub fn signing(authz: Arc<Chain>) -> Self {
        Self { plugin: "CertificateSigning", subresource: "status", verb: "sign", authz }
    }

    /// Whether the user holds the verb on the signer, or on all signers of its domain.
    async fn holds(&self, attributes: &Attributes<'_>, signer: &str) -> bool {
        let domain = signer.split_once('/').map(|(domain, _)| format!("{domain}/*"));
        for name in std::iter::once(signer.to_owned()).chain(domain) {
            let asked = authz::Attributes {
                user: attributes.user.clone(),
                verb: self.verb.into(),
                group: GROUP.into(),
                version: "*".into(),
                resource: "signers".into(),
                name,
                is_resource: true,
                ..authz::Attributes::default()
            };
            if self.authz.authorize(&asked).await.is_ok() {
                return true;
            }
        }
        false
    }
}

#[async_trait]
impl ValidatingAdmission for SignerPermission {
    fn name(&self) -> &'static str {
        self.plugin
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Object>,
        _warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        let is_request =
            attributes.resource.group == GROUP && attributes.resource.plural == "certificatesigningrequests";
        let (Some(old), Some(new)) = (attributes.old, object) else { return Ok(()) };
        if !is_request || attributes.operation != Operation::Update || attributes.subresource != self.subresource {
            return Ok(());
        }
        // A status without a new certificate or condition signs nothing.
        let certificate = |request: &Object| request.get(&["status", "certificate"]).cloned();
        let conditions = |request: &Object| request.get(&["status", "conditions"]).cloned();
        if self.verb == "sign" && certificate(old) == certificate(new) && conditions(old) == conditions(new) {
            return Ok(());
        }
        let signer = old.text(&["spec", "signerName"]);
        if self.holds(attributes, signer).await {
            return Ok(());
        }
        let why = format!("user not permitted to {} requests with signerName {signer:?}", self.verb);
        Err(ApiError::forbidden(attributes.resource.qualified(), attributes.name, &why))
    }
}

/// CertificateSubjectRestriction: no client certificate makes its holder a member of `system:masters`.
pub struct CertificateSubjectRestriction;

#[async_trait]
impl ValidatingAdmission for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Object>,
        _warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        let is_new = attributes.is(GROUP, "certificatesigningrequests") && attributes.operation == Operation::Create;
        let Some(request) = object.filter(|_| is_new) else { return Ok(()) };
        if request.text(&["spec", "signerName"]) != CLIENT_SIGNER {
            return Ok(());
        }
        let why = match groups_of(request) {
            Some(groups) if !groups.iter().any(|group| group == MASTERS) => return Ok(()),
            Some(_) => format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"),
            // What this cannot read, a signer might.
            None => "failed to parse CSR: it is no certificate request in PEM".to_owned(),
        };
        Err(ApiError::forbidden(attributes.resource.qualified(), attributes.name, &why))
    }
}

/// The organisations that a request asks for; `None` when it cannot be read.
fn groups_of(request: &Object) -> Option<Vec<String>> {
    groups_asked_for(&STANDARD.decode(request.get(&["spec", "request"]).and_then(Value::as_str)?).ok()?)
}

/// The organisations that a certificate request in PEM asks for; `None` when it, or one of them, cannot be read.
pub(crate) fn groups_asked_for(pem: &[u8]) -> Option<Vec<String>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    if pem.label != "CERTIFICATE REQUEST" {
        return None;
    }
    let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = &parsed.certification_request_info.subject;
    subject.iter_organization().map(|group| group.as_str().ok().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use serde_json::json;

    #[test]
    fn the_groups_of_a_request_are_its_organisations() {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, MASTERS);
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let request = Object::from_value(json!({"spec": {"request": STANDARD.encode(pem)}})).unwrap();
        assert_eq!(groups_of(&request).unwrap(), [MASTERS]);
        assert_eq!(groups_of(&Object::default()), None);
    }
}
