//! The ServiceAccount `default` (upstream: `ServiceAccountsController`).

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::PerNamespace;
use crate::descriptor::Descriptor;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "serviceaccount-controller",
    aliases: &["serviceaccount"],
    start: |start| {
        let metadata = ObjectMeta { name: Some("default".to_owned()), ..ObjectMeta::default() };
        let wanted = ServiceAccount { metadata, ..ServiceAccount::default() };
        let controller = PerNamespace::new(start.context, wanted, |_, _| None);
        start.drive("serviceaccount", controller, start.config.tuning.concurrent_syncs)
    },
};
