//! PodGroupProtection: groups go only when their pods have ended.

use api::Object;
use async_trait::async_trait;

use super::storage_object_in_use_protection::protect;
use super::{Phases, Plugin};
use crate::admission::{Attributes, MutatingAdmission, Outcome, Warnings};

pub(super) const PLUGIN: Plugin = Plugin::on("PodGroupProtection", |_| Phases::mutating(PodGroupProtection));

struct PodGroupProtection;

#[async_trait]
impl MutatingAdmission for PodGroupProtection {
    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Object>, _: &mut Warnings) -> Outcome {
        if let Some(group) = object.filter(|_| attributes.creates("scheduling.k8s.io", "podgroups")) {
            protect(group, "scheduling.k8s.io/podgroup-protection");
        }
        Ok(())
    }
}
