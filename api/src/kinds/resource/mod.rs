//! Kinds of the group `resource.k8s.io`: devices and claims on them (upstream: `pkg/apis/resource`,
//! `pkg/registry/resource`).

mod capacity;
mod claim;
mod claim_status;
mod claim_template;
mod device_class;
mod pool_status_request;
mod shared;
mod shown;
mod slice;
mod taint_rule;

use super::kind::Group;

pub(crate) const GROUP: Group = Group {
    name: "resource.k8s.io",
    versions: &[
        ("v1", &[device_class::KIND, claim::KIND, claim_template::KIND, slice::KIND]),
        (
            "v1beta2",
            &[
                device_class::KIND.stored_in("v1"),
                taint_rule::KIND,
                claim::KIND.stored_in("v1"),
                claim_template::KIND.stored_in("v1"),
                slice::KIND.stored_in("v1"),
            ],
        ),
        (
            "v1beta1",
            &[
                device_class::KIND.stored_in("v1"),
                claim::KIND.stored_in("v1"),
                claim_template::KIND.stored_in("v1"),
                slice::KIND.stored_in("v1"),
            ],
        ),
        ("v1alpha3", &[taint_rule::KIND.stored_in("v1beta2"), pool_status_request::KIND]),
    ],
};
