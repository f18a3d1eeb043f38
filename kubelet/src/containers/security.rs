//! Resolves the security contexts of pod and container into what the runtime enforces. Pure (upstream:
//! pkg/kubelet/kuberuntime/security_context.go).
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};
use runtime::{Seccomp, Security};

use crate::pod;

/// A security context that cannot be honoured; the text is what `CreateContainerConfigError` shows.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// `runAsNonRoot` with uid 0 asked for.
    #[error("container's runAsUser breaks non-root policy (pod: \"{pod}\", container: {container})")]
    UserIsRoot {
        /// `name_namespace(uid)`.
        pod: String,
        /// The container.
        container: String,
    },
    /// `runAsNonRoot` with an image that runs as root.
    #[error("container has runAsNonRoot and image will run as root (pod: \"{pod}\", container: {container})")]
    ImageIsRoot {
        /// `name_namespace(uid)`.
        pod: String,
        /// The container.
        container: String,
    },
    /// `runAsNonRoot` with an image whose user has a name.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: \"{pod}\", container: {container})"
    )]
    ImageUserHasName {
        /// The image's user.
        user: String,
        /// `name_namespace(uid)`.
        pod: String,
        /// The container.
        container: String,
    },
    /// An id that no process can have.
    #[error("{field} {value} is out of range")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// A wish that this node cannot fulfil.
    #[error("{0} is not supported on this node")]
    Unsupported(String),
}

/// The context of one container of an image that runs as `image_user`.
pub(crate) fn resolve(pod: &Pod, container: &Container, image_user: &str, root_dir: &Path) -> Result<Security, Error> {
    let shared = pod::spec(pod).security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    refuse_unsupported(pod, container)?;
    let user = own.run_as_user.or(shared.run_as_user);
    let group = own.run_as_group.or(shared.run_as_group);
    if own.run_as_non_root.or(shared.run_as_non_root).unwrap_or(false) {
        check_non_root(pod, container, user, image_user)?;
    }
    let mut groups = Vec::new();
    for id in shared.supplemental_groups.iter().flatten().chain(&shared.fs_group) {
        groups.push(id32("supplementalGroups", *id)?);
    }
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let privileged = own.privileged.unwrap_or(false);
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let profile = own.seccomp_profile.as_ref().or(shared.seccomp_profile.as_ref());
    Ok(Security {
        privileged,
        user: user.map(|id| id32("runAsUser", id)).transpose()?,
        group: group.map(|id| id32("runAsGroup", id)).transpose()?,
        supplemental_groups: groups,
        add_capabilities: names(capabilities.add),
        drop_capabilities: names(capabilities.drop),
        read_only_root: own.read_only_root_filesystem.unwrap_or(false),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        seccomp: if privileged { Seccomp::Unconfined } else { seccomp(profile, root_dir) },
        masked_paths: unmasked.then(Vec::new),
        read_only_paths: unmasked.then(Vec::new),
    })
}

fn refuse_unsupported(pod: &Pod, container: &Container) -> Result<(), Error> {
    let spec = pod::spec(pod);
    let shared = spec.security_context.as_ref();
    let own = container.security_context.as_ref();
    let profile = own
        .and_then(|own| own.app_armor_profile.as_ref())
        .or(shared.and_then(|shared| shared.app_armor_profile.as_ref()));
    if let Some(profile) = profile.filter(|profile| profile.type_ == "Localhost") {
        let name = profile.localhost_profile.as_deref().unwrap_or_default();
        return Err(Error::Unsupported(format!("AppArmor profile {name:?}")));
    }
    if own.is_some_and(|own| own.windows_options.is_some()) {
        return Err(Error::Unsupported("securityContext.windowsOptions".to_owned()));
    }
    if container.volume_devices.as_ref().is_some_and(|devices| !devices.is_empty()) {
        return Err(Error::Unsupported("a block volume (volumeDevices)".to_owned()));
    }
    let claims = container.resources.as_ref().and_then(|resources| resources.claims.as_ref());
    if claims.is_some_and(|claims| !claims.is_empty()) {
        return Err(Error::Unsupported("a resource claim".to_owned()));
    }
    let policy = shared.and_then(|shared| shared.supplemental_groups_policy.as_deref());
    if policy == Some("Strict") {
        return Err(Error::Unsupported("supplementalGroupsPolicy Strict".to_owned()));
    }
    Ok(())
}

fn check_non_root(pod: &Pod, container: &Container, user: Option<i64>, image_user: &str) -> Result<(), Error> {
    let (pod, container) = (pod::describe(pod), container.name.clone());
    if let Some(user) = user {
        return if user == 0 { Err(Error::UserIsRoot { pod, container }) } else { Ok(()) };
    }
    match image_user.split(':').next().unwrap_or_default() {
        "" => Err(Error::ImageIsRoot { pod, container }),
        user => match user.parse::<u32>() {
            Ok(0) => Err(Error::ImageIsRoot { pod, container }),
            Ok(_) => Ok(()),
            Err(_) => Err(Error::ImageUserHasName { user: user.to_owned(), pod, container }),
        },
    }
}

fn id32(field: &'static str, value: i64) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_| Error::OutOfRange { field, value })
}

fn names(list: Option<Vec<String>>) -> Vec<String> {
    let bare = |name: String| name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name);
    list.into_iter().flatten().map(bare).collect()
}

fn seccomp(profile: Option<&SeccompProfile>, root_dir: &Path) -> Seccomp {
    match profile.map(|profile| profile.type_.as_str()) {
        Some("RuntimeDefault") => Seccomp::RuntimeDefault,
        Some("Localhost") => {
            let file = profile.and_then(|profile| profile.localhost_profile.clone()).unwrap_or_default();
            Seccomp::Localhost(root_dir.join("seccomp").join(file))
        }
        // Without a profile a container is unconfined, as upstream unless SeccompDefault is set.
        _ => Seccomp::Unconfined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shared: serde_json::Value, own: serde_json::Value, image_user: &str) -> Result<Security, Error> {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": shared, "containers": [{"name": "c", "securityContext": own}]}
        }))
        .unwrap();
        resolve(&pod, &pod::spec(&pod).containers[0], image_user, Path::new("/var/lib/kubelet"))
    }

    #[test]
    fn the_container_wins_over_the_pod() {
        let security = check(
            serde_json::json!({"runAsUser": 1, "fsGroup": 7, "supplementalGroups": [5]}),
            serde_json::json!({"runAsUser": 2, "capabilities": {"add": ["CAP_NET_ADMIN"], "drop": ["ALL"]}}),
            "",
        )
        .unwrap();
        assert_eq!((security.user, security.supplemental_groups), (Some(2), vec![5, 7]));
        assert_eq!(
            (security.add_capabilities, security.drop_capabilities),
            (vec!["NET_ADMIN".into()], vec!["ALL".into()])
        );
    }

    #[test]
    fn non_root_is_checked_against_the_image() {
        let non_root = serde_json::json!({"runAsNonRoot": true});
        let none = serde_json::json!({});
        assert!(matches!(check(non_root.clone(), none.clone(), ""), Err(Error::ImageIsRoot { .. })));
        assert!(matches!(check(non_root.clone(), none.clone(), "nobody"), Err(Error::ImageUserHasName { .. })));
        assert!(check(non_root.clone(), none, "1000:1000").is_ok());
        let root = serde_json::json!({"runAsUser": 0});
        assert!(matches!(check(non_root, root, ""), Err(Error::UserIsRoot { .. })));
    }
}
