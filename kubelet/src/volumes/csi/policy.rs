//! What a driver wants of kubelets, as its CSIDriver says; much of it has a default where there is no such object.
use api::volumes::attachment;
use k8s_openapi::api::storage::v1::{CSIDriver, TokenRequest};
use kube::Api;

use super::wanted::Wanted;
use crate::failure::answer;
use crate::volumes::{Pass, Reason};

/// How a driver's volumes are brought to pods.
#[derive(Debug, Default)]
pub(super) struct Policy {
    /// They are attached to the node first.
    pub(super) is_attached: bool,
    pub(super) tells_of_pod: bool,
    pub(super) republishes: bool,
    pub(super) tokens: Vec<TokenRequest>,
    /// Tokens are given to it as it gets secrets, and not as attributes.
    pub(super) tokens_are_secret: bool,
    group: GroupPolicy,
}

/// Whether the kubelet gives volumes to the pod's group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum GroupPolicy {
    Never,
    Always,
    /// Where that is sure to be a file system of the node's own.
    #[default]
    IfOfOneNode,
}

impl Pass<'_> {
    /// What the driver of a volume wants. Fails when it does not want such volumes.
    pub(super) async fn policy(&self, wanted: &Wanted) -> Result<Policy, Reason> {
        let name = &wanted.id.driver;
        let drivers: Api<CSIDriver> = Api::all(self.context.client.clone());
        let driver = drivers.get_opt(name).await;
        let driver = driver.map_err(|err| format!("failed to get CSIDriver {name:?}: {}", answer(&err)))?;
        check_lifecycle(driver.as_ref(), wanted)?;
        Ok(Policy::of(driver.as_ref(), wanted.is_ephemeral))
    }
}

impl Policy {
    fn of(driver: Option<&CSIDriver>, is_ephemeral: bool) -> Self {
        let is_attached = !is_ephemeral && attachment::is_attached(driver);
        let Some(spec) = driver.map(|driver| &driver.spec) else { return Self { is_attached, ..Self::default() } };
        Self {
            is_attached,
            tells_of_pod: spec.pod_info_on_mount == Some(true),
            republishes: spec.requires_republish == Some(true),
            tokens: spec.token_requests.clone().unwrap_or_default(),
            tokens_are_secret: spec.service_account_token_in_secrets == Some(true),
            group: match spec.fs_group_policy.as_deref() {
                Some("None") => GroupPolicy::Never,
                Some("File") => GroupPolicy::Always,
                _ => GroupPolicy::IfOfOneNode,
            },
        }
    }

    /// Whether the kubelet is to give the volume to the pod's group (upstream: supportsFSGroup).
    pub(super) fn gives_to_group(&self, wanted: &Wanted) -> bool {
        !wanted.read_only
            && match self.group {
                GroupPolicy::Never => false,
                GroupPolicy::Always => true,
                GroupPolicy::IfOfOneNode => {
                    !wanted.fs_type.is_empty() && (wanted.is_ephemeral || wanted.is_of_one_node())
                }
            }
    }
}

fn check_lifecycle(driver: Option<&CSIDriver>, wanted: &Wanted) -> Result<(), Reason> {
    let mode = if wanted.is_ephemeral { "Ephemeral" } else { "Persistent" };
    let name = &wanted.id.driver;
    let modes = driver.and_then(|driver| driver.spec.volume_lifecycle_modes.as_deref()).unwrap_or_default();
    let is_had = if modes.is_empty() { !wanted.is_ephemeral } else { modes.iter().any(|had| had == mode) };
    match (is_had, driver) {
        (true, _) => Ok(()),
        (false, None) => {
            Err(format!("volume mode {mode:?} not supported by driver {name} (no CSIDriver object)").into())
        }
        (false, Some(_)) => {
            Err(format!("volume mode {mode:?} not supported by driver {name} (only supports {modes:?})").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PersistentVolumeSpec, Pod};
    use serde_json::{Value, json};

    use super::*;

    fn driver(spec: Value) -> CSIDriver {
        serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": spec})).unwrap()
    }

    fn persistent(mode: &str, fs_type: &str, read_only: bool) -> Wanted {
        let csi = json!({"driver": "d", "volumeHandle": "h", "fsType": fs_type});
        let spec: PersistentVolumeSpec = serde_json::from_value(json!({"accessModes": [mode], "csi": csi})).unwrap();
        Wanted::persistent("pv", &spec, spec.csi.as_ref().unwrap(), read_only)
    }

    fn own(fs_type: &str) -> Wanted {
        let source = serde_json::from_value(json!({"driver": "d", "fsType": fs_type})).unwrap();
        Wanted::ephemeral(&Pod::default(), "v", &source)
    }

    #[test]
    fn volumes_go_to_the_group_by_the_drivers_policy() {
        let gives = |policy: &str, wanted: &Wanted| {
            Policy::of(Some(&driver(json!({"fsGroupPolicy": policy}))), false).gives_to_group(wanted)
        };
        let once = persistent("ReadWriteOnce", "ext4", false);
        assert!(gives("ReadWriteOnceWithFSType", &once) && Policy::default().gives_to_group(&once));
        assert!(gives("ReadWriteOnceWithFSType", &own("ext4")) && !gives("ReadWriteOnceWithFSType", &own("")));
        assert!(!gives("ReadWriteOnceWithFSType", &persistent("ReadWriteOnce", "", false)));
        assert!(!gives("ReadWriteOnceWithFSType", &persistent("ReadWriteMany", "nfs", false)));
        assert!(gives("File", &persistent("ReadWriteMany", "", false)));
        assert!(!gives("File", &persistent("ReadWriteOnce", "ext4", true)), "nobody writes to it");
        assert!(!gives("None", &once));
    }

    #[test]
    fn a_pod_has_volumes_for_itself_only_of_drivers_that_say_so() {
        let check = |driver: Option<&CSIDriver>, wanted: &Wanted| {
            check_lifecycle(driver, wanted).map_err(|why| why.to_string())
        };
        let (both, plain) = (driver(json!({"volumeLifecycleModes": ["Persistent", "Ephemeral"]})), driver(json!({})));
        let named = persistent("ReadWriteOnce", "", false);
        assert!(check(Some(&both), &own("")).is_ok() && check(Some(&both), &named).is_ok());
        assert!(check(None, &named).is_ok() && check(Some(&plain), &named).is_ok());
        let why = check(None, &own("")).unwrap_err();
        assert_eq!(why, "volume mode \"Ephemeral\" not supported by driver d (no CSIDriver object)");
        let only = driver(json!({"volumeLifecycleModes": ["Ephemeral"]}));
        let why = check(Some(&only), &named).unwrap_err();
        assert_eq!(why, "volume mode \"Persistent\" not supported by driver d (only supports [\"Ephemeral\"])");
    }

    #[test]
    fn volumes_are_attached_unless_the_driver_or_the_pod_has_them_otherwise() {
        assert!(Policy::of(None, false).is_attached && !Policy::of(None, true).is_attached);
        assert!(!Policy::of(Some(&driver(json!({"attachRequired": false}))), false).is_attached);
    }
}
