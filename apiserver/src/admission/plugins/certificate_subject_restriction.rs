//! CertificateSubjectRestriction: no client certificate makes its holder a member of `system:masters`.

use api::Object;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use super::certificate_approval::GROUP;
use super::{Phases, Plugin};
use crate::admission::{Attributes, Outcome, ValidatingAdmission, Warnings};
use crate::authz::MASTERS;

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(super) const PLUGIN: Plugin =
    Plugin::on("CertificateSubjectRestriction", |_| Phases::validating(CertificateSubjectRestriction));

struct CertificateSubjectRestriction;

#[async_trait]
impl ValidatingAdmission for CertificateSubjectRestriction {
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>, _: &mut Warnings) -> Outcome {
        let is_new = attributes.creates(GROUP, "certificatesigningrequests");
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
        Err(attributes.forbidden(&why))
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
