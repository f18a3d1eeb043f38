//! CertificateApproval: who may approve requests for a signer.

use std::sync::Arc;

use api::Object;
use async_trait::async_trait;

use super::{Phases, Plugin};
use crate::admission::{Attributes, Operation, Outcome, ValidatingAdmission, Warnings};
use crate::authz::{self, Chain};

pub(super) const GROUP: &str = "certificates.k8s.io";

pub(super) const PLUGIN: Plugin = Plugin::on("CertificateApproval", |server| {
    Phases::validating(SignerPermission { subresource: "approval", verb: "approve", authz: server.authz.clone() })
});

/// Changes of one subresource need a verb on the signer.
pub(super) struct SignerPermission {
    pub(super) subresource: &'static str,
    pub(super) verb: &'static str,
    pub(super) authz: Arc<Chain>,
}

impl SignerPermission {
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
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>, _: &mut Warnings) -> Outcome {
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
        Err(attributes.forbidden(&why))
    }
}
