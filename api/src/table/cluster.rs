//! Rows of the other groups: access, admission, scheduling, flow control, certificates, the API itself.

use super::Printer;
use crate::kinds::admissionregistration::{bindings, policies, webhooks};
use crate::kinds::apiregistration::api_service;
use crate::kinds::certificates::signing_request;
use crate::kinds::coordination::lease;
use crate::kinds::flowcontrol::{flow_schema, priority_level};
use crate::kinds::node::runtime_class;
use crate::kinds::rbac;
use crate::kinds::scheduling::priority_class;

pub(crate) fn printer(group: &str, plural: &str) -> Option<Printer> {
    Some(match (group, plural) {
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => policies::mutating_cells,
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => policies::validating_cells,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings" | "validatingadmissionpolicybindings") => {
            bindings::cells
        }
        ("admissionregistration.k8s.io", _) => webhooks::cells,
        ("apiregistration.k8s.io", "apiservices") => api_service::cells,
        ("certificates.k8s.io", "certificatesigningrequests") => signing_request::cells,
        ("coordination.k8s.io", "leases") => lease::cells,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => flow_schema::cells,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => priority_level::cells,
        ("node.k8s.io", "runtimeclasses") => runtime_class::cells,
        ("rbac.authorization.k8s.io", "clusterrolebindings" | "rolebindings") => rbac::bindings::cells,
        ("scheduling.k8s.io", "priorityclasses") => priority_class::cells,
        _ => return None,
    })
}
