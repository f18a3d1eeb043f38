//! Attaches volumes of storage drivers to the nodes whose pods use them, and detaches them when no pod does (upstream:
//! pkg/controller/volume/attachdetach).
//!
//! ```text
//!  pod on a node, its claim is bound --> VolumeAttachment made --> the driver's attacher attaches
//!    --> node.status.volumesAttached --> the kubelet mounts
//!  no pod, node.status.volumesInUse lacks it --> out of volumesAttached --> VolumeAttachment deleted --> detached
//! ```
//! A node that does not say for six minutes that a volume is unmounted loses it if it is not ready, and at once if it has
//! the taint `out-of-service`. A volume of one node is attached to another only when the first has no attachment left.
//!
//! Whether a volume is attached is the VolumeAttachments' to say, so that a restart forgets nothing but how long has been
//! waited.

mod observe;
mod plan;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::{ObjectKey, Recorder, WorkQueue, events, write};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::{VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::Instant;

use self::observe::Caches;
use self::plan::{Note, Plan, Seen, Wanted};
use crate::context::{Context, Controller, Outcome};
use crate::descriptor::Descriptor;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "persistentvolume-attach-detach-controller",
    aliases: &["attachdetach"],
    // One worker: of two nodes that want a volume, one sees that the other has it.
    start: |start| {
        let patience = start.config.tuning.attach_detach_reconcile_max_wait_unmount_duration;
        let patience = (!start.config.tuning.disable_force_detach_on_timeout).then_some(patience);
        start.drive("attachdetach", AttachDetach::new(start.context, patience), 1)
    },
};

struct AttachDetach {
    client: kube::Client,
    recorder: Recorder,
    caches: Caches,
    /// How long a node that is not ready may keep a volume that no pod uses; `None` for ever.
    patience: Option<std::time::Duration>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Attachments that were made and that the cache may not show yet.
    made: HashMap<String, Arc<VolumeAttachment>>,
    /// Attachments that were made and are not attached yet, as far as pods were told.
    attaching: HashSet<String>,
    /// Since when attachments are not needed.
    unused: HashMap<String, Instant>,
    /// What was last said of a volume on a node, by the name of its attachment.
    told: HashMap<String, Note>,
}

impl AttachDetach {
    fn new(context: &Context, patience: Option<std::time::Duration>) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let caches = Caches::new(context);
        caches.wake(&queue);
        let new = Self {
            client: context.client.clone(),
            recorder: context.recorder.for_component("attachdetach-controller"),
            caches,
            patience,
            memory: Mutex::default(),
        };
        (new, queue)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe(&self, node: &str) -> Seen {
        let mut memory = self.memory();
        let Memory { made, attaching, unused, told } = &mut *memory;
        made.retain(|name, _| self.caches.attachment(name).is_none());
        let mut seen = self.caches.observe(node, made);
        let now = Instant::now();
        for attachment in &mut seen.attachments {
            let is_wanted = seen.wanted.iter().any(|wanted| wanted.attachment == attachment.name);
            match is_wanted {
                true => drop(unused.remove(&attachment.name)),
                false => attachment.unused = now - *unused.entry(attachment.name.clone()).or_insert(now),
            }
        }
        unused.retain(|name, _| self.caches.attachment(name).is_some());
        attaching.retain(|name| made.contains_key(name) || self.caches.attachment(name).is_some());
        told.retain(|name, _| {
            self.caches.attachment(name).is_some() || seen.wanted.iter().any(|wanted| wanted.attachment == *name)
        });
        seen
    }

    async fn execute(&self, node: &str, seen: &Seen, plan: &Plan) -> Result<(), crate::context::Failure> {
        let mut live = None;
        if let Some(attached) = &plan.report {
            let shown: Vec<_> = attached.iter().map(|name| json!({ "name": name, "devicePath": "" })).collect();
            let patch = Patch::Merge(json!({ "status": { "volumesAttached": shown } }));
            let nodes: Api<Node> = Api::all(self.client.clone());
            let patched = nodes.patch_status(node, &PatchParams::default(), &patch).await;
            live = write::ignore_not_found(patched)?;
        }
        for detach in &plan.detach {
            self.detach(node, detach, &mut live).await?;
        }
        for wanted in &plan.attach {
            self.attach(node, wanted).await?;
        }
        for (wanted, note) in
            seen.wanted.iter().filter_map(|wanted| Some((wanted, plan.notes.get(&wanted.attachment)?)))
        {
            self.tell(wanted, note);
        }
        Ok(())
    }

    async fn attach(&self, node: &str, wanted: &Wanted) -> Result<(), crate::context::Failure> {
        let attachment = VolumeAttachment {
            metadata: ObjectMeta { name: Some(wanted.attachment.clone()), ..ObjectMeta::default() },
            spec: VolumeAttachmentSpec {
                attacher: wanted.volume.driver.clone(),
                node_name: node.to_owned(),
                source: VolumeAttachmentSource {
                    persistent_volume_name: Some(wanted.volume.name.clone()),
                    ..VolumeAttachmentSource::default()
                },
            },
            status: None,
        };
        let api: Api<VolumeAttachment> = Api::all(self.client.clone());
        match api.create(&PostParams::default(), &attachment).await {
            Ok(made) => {
                let mut memory = self.memory();
                memory.attaching.insert(wanted.attachment.clone());
                memory.made.insert(wanted.attachment.clone(), Arc::new(made));
                Ok(())
            }
            // The cache will show it.
            Err(err) if write::is_already_exists(&err) => Ok(()),
            Err(err) => {
                let note = Note::Failed(write::status_message(&err));
                self.tell(wanted, &note);
                Err(err.into())
            }
        }
    }

    /// Deletes an attachment, unless the node says by now that it uses the volume.
    async fn detach(
        &self,
        node: &str,
        detach: &plan::Detach,
        live: &mut Option<Node>,
    ) -> Result<(), crate::context::Failure> {
        if !detach.by_force {
            if live.is_none() {
                let nodes: Api<Node> = Api::all(self.client.clone());
                *live = nodes.get_opt(node).await?;
            }
            let in_use = live.as_ref().is_some_and(|node| observe::in_use(node).contains(&detach.volume));
            if in_use {
                // The cache will show that, too.
                return Ok(());
            }
        }
        let api: Api<VolumeAttachment> = Api::all(self.client.clone());
        write::ignore_not_found(api.delete(&detach.attachment, &DeleteParams::default()).await)?;
        self.memory().made.remove(&detach.attachment);
        Ok(())
    }

    /// Tells the pods once.
    fn tell(&self, wanted: &Wanted, note: &Note) {
        let mut memory = self.memory();
        let is_known = memory.told.insert(wanted.attachment.clone(), note.clone()).as_ref() == Some(note);
        // What was attached before this process began is no news.
        let is_old = *note == Note::Attached && !memory.attaching.remove(&wanted.attachment);
        drop(memory);
        if is_known || is_old {
            return;
        }
        let name = &wanted.volume.name;
        for pod in &wanted.pods {
            let about = events::about(&**pod);
            match note {
                // Upstream's words, with the blank that ends them.
                Note::Attached => {
                    let message = format!("AttachVolume.Attach succeeded for volume {name:?} ");
                    self.recorder.normal(about, "SuccessfulAttachVolume", message);
                }
                Note::Failed(why) => {
                    let message = format!("AttachVolume.Attach failed for volume {name:?} : {why}");
                    self.recorder.warning(about, "FailedAttachVolume", message);
                }
                Note::Elsewhere(why) => {
                    let message = format!("Multi-Attach error for volume {name:?} {why}");
                    self.recorder.warning(about, "FailedAttachVolume", message);
                }
            }
        }
    }
}

impl Controller for AttachDetach {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let seen = self.observe(&key.name);
        let plan = plan::plan(&seen, self.patience);
        self.execute(&key.name, &seen, &plan).await?;
        Ok(plan.again)
    }
}
