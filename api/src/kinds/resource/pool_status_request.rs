//! ResourcePoolStatusRequests (upstream: `pkg/registry/resource/resourcepoolstatusrequest`).

use crate::kinds::kind::{Kind, Sub};

pub(crate) const KIND: Kind = Kind {
    subresources: &[Sub::STATUS],
    delete_returns_object: true,
    ..Kind::cluster("resourcepoolstatusrequests", "ResourcePoolStatusRequest")
};
