//! Which requests a signer accepts, as upstream's signers document it.

use std::net::IpAddr;

use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
use x509_cert::der::DecodePem;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::request::CertReq;

use super::authority;

pub(super) const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub(super) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub(super) const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub(super) const LEGACY: &str = "kubernetes.io/legacy-unknown";

const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";
/// A client certificate must not make its holder an administrator.
const MASTERS: &str = "system:masters";

/// What a request asks for.
pub(super) struct Wanted {
    pub(super) request: CertReq,
    common_name: String,
    organizations: Vec<String>,
    pub(super) dns: Vec<String>,
    pub(super) ips: Vec<Option<IpAddr>>,
    others: usize,
}

impl Wanted {
    /// Reads the PEM request.
    pub(super) fn parse(spec: &CertificateSigningRequestSpec) -> Result<Self, String> {
        let request = CertReq::from_pem(&spec.request.0).map_err(|err| format!("unable to parse csr: {err}"))?;
        let text = |oid: &str| {
            let of_kind = request.info.subject.iter().filter(move |part| part.oid.to_string() == oid);
            of_kind.map(|part| String::from_utf8_lossy(part.value.value()).into_owned()).collect::<Vec<_>>()
        };
        let (common_name, organizations) = (text("2.5.4.3").pop().unwrap_or_default(), text("2.5.4.10"));
        let names = authority::alternative_names(&request).map_err(|err| format!("unable to parse csr: {err}"))?;
        let (mut dns, mut ips, mut others) = (Vec::new(), Vec::new(), 0);
        for name in names.iter().flat_map(|names| &names.0) {
            match name {
                GeneralName::DnsName(name) => dns.push(name.to_string()),
                GeneralName::IpAddress(bytes) => ips.push(address(bytes.as_bytes())),
                _ => others += 1,
            }
        }
        Ok(Self { request, common_name, organizations, dns, ips, others })
    }

    fn is_node(&self) -> bool {
        self.organizations == [NODES] && self.common_name.strip_prefix(NODE_PREFIX).is_some_and(|name| !name.is_empty())
    }

    /// The node that its subject names.
    pub(super) fn node(&self) -> &str {
        self.common_name.strip_prefix(NODE_PREFIX).unwrap_or_default()
    }

    fn names(&self) -> usize {
        self.dns.len() + self.ips.len() + self.others
    }
}

/// The address of a subject alternative name; `None` where the bytes are none.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Why the signer will not sign this, in words for the `Failed` condition.
pub(super) fn refusal(spec: &CertificateSigningRequestSpec, wanted: &Wanted) -> Option<String> {
    let usages = spec.usages.clone().unwrap_or_default();
    let only = |allowed: &[&str], required: &str| {
        let has_required = usages.iter().any(|usage| usage == required);
        (!has_required || usages.iter().any(|usage| !allowed.contains(&usage.as_str())))
            .then(|| format!("usages did not match {allowed:?}"))
    };
    let signing = ["digital signature", "key encipherment"];
    match spec.signer_name.as_str() {
        CLIENT => {
            let is_master = wanted.organizations.iter().any(|group| group == MASTERS);
            is_master
                .then(|| format!("use of {MASTERS} group is not allowed"))
                .or_else(|| only(&[signing[0], signing[1], "client auth"], "client auth"))
        }
        KUBELET_CLIENT if !wanted.is_node() => Some(format!("subject must be O={NODES}, CN={NODE_PREFIX}<name>")),
        KUBELET_CLIENT if wanted.names() > 0 => Some("subject alternative names are not allowed".to_owned()),
        KUBELET_CLIENT => only(&[signing[0], signing[1], "client auth"], "client auth"),
        KUBELET_SERVING if !wanted.is_node() => Some(format!("subject must be O={NODES}, CN={NODE_PREFIX}<name>")),
        KUBELET_SERVING if spec.username.as_deref() != Some(&wanted.common_name) => {
            Some("the requestor must be the node itself".to_owned())
        }
        KUBELET_SERVING if wanted.dns.len() + wanted.ips.len() == 0 || wanted.others > 0 => {
            Some("DNS or IP subject alternative names are required, no others are allowed".to_owned())
        }
        KUBELET_SERVING => only(&[signing[0], signing[1], "server auth"], "server auth"),
        _ => None,
    }
}

/// Whether a kubelet asks for its own client certificate, the only kind that is approved without an administrator; the
/// subresource says which permission the requestor needs for that.
pub(super) fn self_approval(spec: &CertificateSigningRequestSpec, wanted: &Wanted) -> Option<&'static str> {
    if spec.signer_name != KUBELET_CLIENT || refusal(spec, wanted).is_some() {
        return None;
    }
    let is_self = spec.username.as_deref() == Some(&wanted.common_name);
    Some(if is_self { "selfnodeclient" } else { "nodeclient" })
}
