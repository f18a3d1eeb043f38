//! DefaultIngressClass: Ingresses that name no class get the one that the cluster's owner marked as default.

use super::default_storage_class::DefaultClass;
use super::{Phases, Plugin};

pub(super) const PLUGIN: Plugin = Plugin::on("DefaultIngressClass", |server| {
    Phases::mutating(DefaultClass {
        classes: server.cache.resource("ingressclasses")?,
        mark: "ingressclass.kubernetes.io/is-default-class",
        of: ("networking.k8s.io", "ingresses"),
        field: "ingressClassName",
        legacy: "kubernetes.io/ingress.class",
    })
});
