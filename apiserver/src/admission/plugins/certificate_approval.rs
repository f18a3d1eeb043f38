//! CertificateApproval and CertificateSigning: who may approve and sign for a signer.

use std::sync::Arc;

use api::{ApiError, Object};
use async_trait::async_trait;

use crate::admission::{Attributes, Operation, ValidatingAdmission, Warnings};
use crate::authz::{self, Chain};

pub(super) const GROUP: &str = "certificates.k8s.io";

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
