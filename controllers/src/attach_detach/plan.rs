//! What is to be done about the volumes of one node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

/// A volume of a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    /// The PersistentVolume's name.
    pub(super) name: String,
    pub(super) driver: String,
    /// The name that it has in the status of nodes.
    pub(super) unique: String,
    /// It can be attached to one node at a time.
    pub(super) exclusive: bool,
}

/// A volume that pods of the node use.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) volume: Volume,
    /// The name that the attachment has, or will have.
    pub(super) attachment: String,
    pub(super) pods: Vec<Arc<Pod>>,
    /// Who has the volume on other nodes, if it is attached to one.
    pub(super) elsewhere: Option<Vec<Arc<Pod>>>,
}

/// An attachment to the node.
#[derive(Clone, Debug, Default)]
pub(super) struct Attachment {
    pub(super) name: String,
    /// The name that its volume has in the status of nodes; `None` if the volume is gone.
    pub(super) volume: Option<String>,
    pub(super) driver: String,
    pub(super) attached: bool,
    pub(super) deleted: bool,
    /// Why it could not be attached.
    pub(super) error: Option<String>,
    /// For how long no pod has wanted it.
    pub(super) unused: Duration,
}

/// The node, as far as it matters.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeSeen {
    /// Its kubelet waits for volumes to be attached.
    pub(super) managed: bool,
    pub(super) ready: bool,
    pub(super) out_of_service: bool,
    pub(super) in_use: BTreeSet<String>,
    pub(super) attached: Vec<String>,
}

/// One node with what its pods want.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// `None` for a node that is gone.
    pub(super) node: Option<NodeSeen>,
    pub(super) wanted: Vec<Wanted>,
    pub(super) attachments: Vec<Attachment>,
}

/// What pods are told about a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    Attached,
    Failed(String),
    Elsewhere(String),
}

/// An attachment that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Detach {
    pub(super) attachment: String,
    /// Its volume, as nodes call it; empty if it is gone.
    pub(super) volume: String,
    /// Whatever the node says.
    pub(super) by_force: bool,
}

/// Steps, to be done in this order.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// What the node is to be told it has, if that is news.
    pub(super) report: Option<Vec<String>>,
    pub(super) detach: Vec<Detach>,
    pub(super) attach: Vec<Wanted>,
    /// What pods are told, by the name of the attachment.
    pub(super) notes: BTreeMap<String, Note>,
    /// When to look again, if nothing changes.
    pub(super) again: Option<Duration>,
}

/// Decides. `patience` is how long a node that is not ready may keep what no pod wants.
pub(super) fn plan(seen: &Seen, patience: Option<Duration>) -> Plan {
    let mut plan = Plan::default();
    for attachment in unused(seen) {
        match detachment(seen, attachment, patience) {
            Verdict::Now { by_force } => plan.detach.push(Detach {
                attachment: attachment.name.clone(),
                volume: attachment.volume.clone().unwrap_or_default(),
                by_force,
            }),
            Verdict::In(pause) => plan.again = Some(plan.again.map_or(pause, |known| known.min(pause))),
            Verdict::Later => {}
        }
    }
    plan.report = report(seen, &plan.detach);
    for wanted in &seen.wanted {
        consider(seen, wanted, &mut plan);
    }
    plan
}

/// Attachments that no pod wants, and that nobody has deleted.
fn unused(seen: &Seen) -> impl Iterator<Item = &Attachment> {
    let is_wanted = |attachment: &Attachment| seen.wanted.iter().any(|wanted| wanted.attachment == attachment.name);
    seen.attachments.iter().filter(move |attachment| !attachment.deleted && !is_wanted(attachment))
}

enum Verdict {
    Now {
        by_force: bool,
    },
    In(Duration),
    /// When something changes.
    Later,
}

fn detachment(seen: &Seen, attachment: &Attachment, patience: Option<Duration>) -> Verdict {
    let node = seen.node.as_ref();
    if node.is_some_and(|node| node.out_of_service) {
        return Verdict::Now { by_force: true };
    }
    if node.is_some_and(|node| !uses(node, attachment)) {
        return Verdict::Now { by_force: false };
    }
    // The node has it mounted, or cannot be asked any more.
    match patience {
        Some(patience) if !node.is_some_and(|node| node.ready) => match patience.checked_sub(attachment.unused) {
            Some(left) if !left.is_zero() => Verdict::In(left),
            _ => Verdict::Now { by_force: true },
        },
        _ => Verdict::Later,
    }
}

/// Whether the node says that it uses the volume. Of one that is gone only the driver is known.
fn uses(node: &NodeSeen, attachment: &Attachment) -> bool {
    let of_driver = format!("kubernetes.io/csi/{}^", attachment.driver);
    match &attachment.volume {
        Some(volume) => node.in_use.contains(volume),
        None => node.in_use.iter().any(|name| name.starts_with(&of_driver)),
    }
}

/// What the node is to be told that it has: what is attached and stays.
fn report(seen: &Seen, detach: &[Detach]) -> Option<Vec<String>> {
    let node = seen.node.as_ref()?;
    let goes = |name: &str| detach.iter().any(|detach| detach.attachment == name);
    let stays = seen.attachments.iter().filter(|one| one.attached && !one.deleted && !goes(&one.name));
    let wanted: BTreeSet<String> = stays.filter_map(|one| one.volume.clone()).collect();
    // What is no driver's is not this controller's.
    let others = node.attached.iter().filter(|name| !name.starts_with("kubernetes.io/csi/")).cloned();
    let wanted: Vec<String> = others.chain(wanted).collect();
    let is_shown = wanted.iter().collect::<BTreeSet<_>>() == node.attached.iter().collect();
    (!is_shown).then_some(wanted)
}

fn consider(seen: &Seen, wanted: &Wanted, plan: &mut Plan) {
    let known = seen.attachments.iter().find(|attachment| attachment.name == wanted.attachment);
    let note = match (known, &wanted.elsewhere) {
        // Once it is gone, it is made again.
        (Some(known), _) if known.deleted => return,
        (Some(known), _) if known.attached => Note::Attached,
        (Some(known), _) => match &known.error {
            Some(why) => Note::Failed(why.clone()),
            None => return,
        },
        (None, Some(users)) if wanted.volume.exclusive => Note::Elsewhere(who(wanted, users)),
        (None, _) => {
            if seen.node.as_ref().is_some_and(|node| node.managed) {
                plan.attach.push(wanted.clone());
            }
            return;
        }
    };
    plan.notes.insert(wanted.attachment.clone(), note);
}

/// Who has the volume, in upstream's words; pods of other namespaces are not named.
fn who(wanted: &Wanted, users: &[Arc<Pod>]) -> String {
    let own: BTreeSet<_> = wanted.pods.iter().filter_map(|pod| pod.metadata.namespace.as_deref()).collect();
    let is_own = |pod: &Pod| pod.metadata.namespace.as_deref().is_some_and(|namespace| own.contains(namespace));
    let (near, far): (Vec<_>, Vec<_>) = users.iter().partition(|pod| is_own(pod));
    if users.is_empty() {
        return "Volume is already exclusively attached to one node and can't be attached to another".to_owned();
    }
    let names: Vec<&str> = near.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
    match (names.is_empty(), far.len()) {
        (true, count) => format!("Volume is already used by {count} pod(s) in different namespaces"),
        (false, 0) => format!("Volume is already used by pod(s) {}", names.join(", ")),
        (false, count) => {
            format!("Volume is already used by pod(s) {} and {count} pod(s) in different namespaces", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    const PATIENCE: Option<Duration> = Some(Duration::from_secs(360));

    fn pod(namespace: &str, name: &str) -> Arc<Pod> {
        Arc::new(from_value(json!({ "metadata": { "namespace": namespace, "name": name } })).unwrap())
    }

    fn unique(name: &str) -> String {
        format!("kubernetes.io/csi/d^{name}")
    }

    fn wanted(name: &str) -> Wanted {
        let volume = Volume { name: name.into(), driver: "d".into(), unique: unique(name), exclusive: true };
        Wanted { volume, attachment: format!("csi-{name}"), pods: vec![pod("n", "p")], elsewhere: None }
    }

    fn attachment(name: &str) -> Attachment {
        Attachment {
            name: format!("csi-{name}"),
            volume: Some(unique(name)),
            driver: "d".into(),
            attached: true,
            ..Attachment::default()
        }
    }

    fn node(in_use: &[&str], attached: &[&str]) -> NodeSeen {
        let names = |list: &[&str]| list.iter().map(|name| unique(name)).collect::<Vec<_>>();
        let (in_use, attached) = (names(in_use).into_iter().collect(), names(attached));
        NodeSeen { managed: true, ready: true, out_of_service: false, in_use, attached }
    }

    fn seen(node: NodeSeen, wanted: Vec<Wanted>, attachments: Vec<Attachment>) -> Seen {
        Seen { node: Some(node), wanted, attachments }
    }

    /// Names of what is attached and detached (with `!` if by force), and what is reported.
    fn check(seen: &Seen, attach: &[&str], detach: &[&str], report: Option<&[&str]>) -> Plan {
        let plan = plan(seen, PATIENCE);
        let attached: Vec<_> = plan.attach.iter().map(|wanted| wanted.volume.name.as_str()).collect();
        assert_eq!(attached, attach);
        let force = |detach: &Detach| if detach.by_force { "!" } else { "" };
        let detached: Vec<_> = plan.detach.iter().map(|one| format!("{}{}", one.attachment, force(one))).collect();
        assert_eq!(detached, detach);
        let report = report.map(|names| names.iter().map(|name| unique(name)).collect::<Vec<_>>());
        assert_eq!(plan.report, report);
        plan
    }

    #[test]
    fn what_pods_use_is_attached_and_shown_once_it_is() {
        check(&seen(node(&[], &[]), vec![wanted("v")], vec![]), &["v"], &[], None);
        let waiting = Attachment { attached: false, ..attachment("v") };
        check(&seen(node(&["v"], &[]), vec![wanted("v")], vec![waiting]), &[], &[], None);
        let plan = check(&seen(node(&["v"], &[]), vec![wanted("v")], vec![attachment("v")]), &[], &[], Some(&["v"]));
        assert_eq!(plan.notes["csi-v"], Note::Attached);
        check(&seen(node(&["v"], &["v"]), vec![wanted("v")], vec![attachment("v")]), &[], &[], None);
        let unmanaged = NodeSeen { managed: false, ..node(&[], &[]) };
        check(&seen(unmanaged, vec![wanted("v")], vec![]), &[], &[], None);
    }

    #[test]
    fn what_no_pod_uses_goes_when_the_node_has_let_go_of_it() {
        check(&seen(node(&["v"], &["v"]), vec![], vec![attachment("v")]), &[], &[], None);
        check(
            &seen(node(&[], &["v", "w"]), vec![wanted("w")], vec![attachment("v"), attachment("w")]),
            &[],
            &["csi-v"],
            Some(&["w"]),
        );
        let going = Attachment { deleted: true, ..attachment("v") };
        check(&seen(node(&[], &["v"]), vec![wanted("v")], vec![going]), &[], &[], Some(&[]));
        let nameless = Attachment { volume: None, ..attachment("v") };
        check(&seen(node(&["w"], &[]), vec![], vec![nameless.clone()]), &[], &[], None);
        check(&seen(node(&[], &[]), vec![], vec![nameless]), &[], &["csi-v"], None);
    }

    #[test]
    fn a_node_that_is_lost_keeps_its_volumes_for_a_while_and_one_out_of_service_does_not() {
        let lost = NodeSeen { ready: false, ..node(&["v"], &["v"]) };
        let plan = check(&seen(lost.clone(), vec![], vec![attachment("v")]), &[], &[], None);
        assert_eq!(plan.again, PATIENCE);
        let old = Attachment { unused: PATIENCE.unwrap(), ..attachment("v") };
        check(&seen(lost.clone(), vec![], vec![old.clone()]), &[], &["csi-v!"], Some(&[]));
        check(&seen(node(&["v"], &["v"]), vec![], vec![old.clone()]), &[], &[], None);
        assert!(
            super::plan(&seen(lost.clone(), vec![], vec![old.clone()]), None).detach.is_empty(),
            "it is turned off"
        );
        let out = NodeSeen { out_of_service: true, ..lost };
        check(&seen(out, vec![], vec![attachment("v")]), &[], &["csi-v!"], Some(&[]));
        let gone = Seen { node: None, wanted: vec![], attachments: vec![old] };
        check(&gone, &[], &["csi-v!"], None);
    }

    #[test]
    fn a_volume_of_one_node_is_not_attached_to_a_second() {
        let elsewhere = |users| Wanted { elsewhere: Some(users), ..wanted("v") };
        let told = |wanted: Wanted| match check(&seen(node(&[], &[]), vec![wanted], vec![]), &[], &[], None)
            .notes
            .remove("csi-v")
        {
            Some(Note::Elsewhere(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(told(elsewhere(vec![])).contains("exclusively attached to one node"));
        assert_eq!(told(elsewhere(vec![pod("n", "a"), pod("n", "b")])), "Volume is already used by pod(s) a, b");
        assert_eq!(told(elsewhere(vec![pod("m", "a")])), "Volume is already used by 1 pod(s) in different namespaces");
        let volume = Volume { exclusive: false, ..wanted("v").volume };
        let shared = Wanted { volume, ..elsewhere(vec![pod("n", "a")]) };
        check(&seen(node(&[], &[]), vec![shared], vec![]), &["v"], &[], None);
    }

    #[test]
    fn a_volume_that_cannot_be_attached_is_told_of() {
        let failed = Attachment { attached: false, error: Some("no room".into()), ..attachment("v") };
        let plan = check(&seen(node(&["v"], &[]), vec![wanted("v")], vec![failed]), &[], &[], None);
        assert_eq!(plan.notes["csi-v"], Note::Failed("no room".into()));
    }
}
