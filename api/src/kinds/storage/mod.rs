//! Kinds of the group `storage.k8s.io`: volumes and their drivers (upstream: `pkg/apis/storage`,
//! `pkg/registry/storage`).

mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
mod storage_class;
mod volume_attachment;
mod volume_attributes_class;

use super::kind::Group;

pub(crate) const GROUP: Group = Group {
    name: "storage.k8s.io",
    versions: &[
        (
            "v1",
            &[
                csi_driver::KIND,
                csi_node::KIND,
                csi_storage_capacity::KIND,
                storage_class::KIND,
                volume_attachment::KIND,
                volume_attributes_class::KIND,
            ],
        ),
        ("v1beta1", &[volume_attributes_class::KIND.stored_in("v1")]),
    ],
};
