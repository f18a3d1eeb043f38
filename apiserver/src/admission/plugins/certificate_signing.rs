//! CertificateSigning: who may sign for a signer.

use super::certificate_approval::SignerPermission;
use super::{Phases, Plugin};

pub(super) const PLUGIN: Plugin = Plugin::on("CertificateSigning", |server| {
    Phases::validating(SignerPermission { subresource: "status", verb: "sign", authz: server.authz.clone() })
});
