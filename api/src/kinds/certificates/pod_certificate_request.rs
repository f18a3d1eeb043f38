//! PodCertificateRequests (upstream: `pkg/registry/certificates/podcertificaterequest`; KEP-4317).

use crate::kinds::kind::{Kind, Sub, field};

pub(crate) const KIND: Kind = Kind {
    subresources: &[Sub::STATUS],
    fields: &[field("spec.signerName"), field("spec.podName"), field("spec.nodeName")],
    ..Kind::namespaced("podcertificaterequests", "PodCertificateRequest")
};
