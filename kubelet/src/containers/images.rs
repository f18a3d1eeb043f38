//! Brings a container's image to the node, by its pull policy, with events as upstream's EnsureImageExists
//! (pkg/kubelet/images).
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, Pod};
use runtime::{Image, ImageAuth};
use tokio::time::Instant;

use crate::context::Context;
use crate::failure::Failure;
use crate::pod;
use crate::references::References;

/// An image that a container needs, its own or a volume's.
pub(crate) struct Wanted<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// `Always`, `IfNotPresent` or `Never`; by the name where there is none.
    pub(crate) policy: Option<&'a str>,
    /// The container that needs it.
    pub(crate) container: &'a str,
}

impl<'a> Wanted<'a> {
    /// What the container runs.
    pub(crate) fn of(container: &'a Container) -> Self {
        Self {
            name: container.image.as_deref().unwrap_or_default(),
            policy: container.image_pull_policy.as_deref(),
            container: &container.name,
        }
    }

    /// What a volume of it shows (KEP-4639).
    pub(crate) fn of_volume(container: &'a Container, volume: &'a ImageVolumeSource) -> Self {
        Self {
            name: volume.reference.as_deref().unwrap_or_default(),
            policy: volume.pull_policy.as_deref(),
            container: &container.name,
        }
    }
}

/// An image, pulled where its policy wants it. `blocked` holds the words of the last failure while pulls of it wait.
pub(crate) async fn ensure(
    context: &Context,
    pod: &Pod,
    wanted: &Wanted<'_>,
    references: &References,
    blocked: Option<&str>,
) -> Result<Image, Failure> {
    let Wanted { name, policy, container } = *wanted;
    check_name(name)?;
    let present = context.runtime.image_status(name).await.map_err(|err| Failure::new("ImageInspectError", err))?;
    match (present, policy.unwrap_or(default_policy(name))) {
        (Some(image), "IfNotPresent" | "Never") => {
            let message =
                format!("Container image \"{name}\" already present on machine and can be accessed by the pod");
            context.container_event(pod, container, "Normal", "Pulled", message);
            return Ok(image);
        }
        (None, "Never") => {
            let message = format!("Container image \"{name}\" is not present with pull policy of Never");
            context.container_event(pod, container, "Warning", "ErrImageNeverPull", message.clone());
            return Err(Failure::new("ErrImageNeverPull", message));
        }
        _ => {}
    }
    if let Some(last) = blocked {
        let message = format!("Back-off pulling image \"{name}\"");
        context.container_event(pod, container, "Normal", "BackOff", message.clone());
        return Err(Failure::new("ImagePullBackOff", format!("{message}: ErrImagePull: {last}")).of_image(name));
    }
    pull(context, pod, wanted, references).await
}

async fn pull(context: &Context, pod: &Pod, wanted: &Wanted<'_>, references: &References) -> Result<Image, Failure> {
    let Wanted { name, container, .. } = *wanted;
    context.container_event(pod, container, "Normal", "Pulling", format!("Pulling image \"{name}\""));
    let started = Instant::now();
    let _turn = match &context.pull_turns {
        Some(turns) => turns.acquire().await.ok(),
        None => None,
    };
    let waited = started.elapsed();
    match pull_with_any(context, pod, name, references).await {
        Ok(image) => {
            let took = started.elapsed();
            let message = format!(
                "Successfully pulled image \"{name}\" in {} ({} including waiting). Image size: {} bytes.",
                short(took.saturating_sub(waited)),
                short(took),
                image.size
            );
            context.container_event(pod, container, "Normal", "Pulled", message);
            Ok(image)
        }
        Err(err) => {
            let message = format!("Failed to pull image \"{name}\": {err}");
            context.container_event(pod, container, "Warning", "Failed", message);
            context.container_event(pod, container, "Warning", "Failed", "Error: ErrImagePull".to_owned());
            Err(Failure::new("ErrImagePull", err).of_image(name))
        }
    }
}

/// Tries the credentials of every pull secret that fits the registry, or none.
async fn pull_with_any(
    context: &Context,
    pod: &Pod,
    name: &str,
    references: &References,
) -> Result<Image, runtime::Error> {
    let mut last = None;
    for auth in credentials(pod, name, references).await {
        match context.runtime.pull_image(name, Some(&auth)).await {
            Ok(image) => return Ok(image),
            Err(err) => last = Some(err),
        }
    }
    match last {
        Some(err) => Err(err),
        None => context.runtime.pull_image(name, None).await,
    }
}

async fn credentials(pod: &Pod, image: &str, references: &References) -> Vec<ImageAuth> {
    let mut found = Vec::new();
    for secret in pod::spec(pod).image_pull_secrets.iter().flatten() {
        // A missing pull secret is no error: the image may be public.
        let Ok(secret) = references.secret(&secret.name).await else { continue };
        let data = secret.data.iter().flatten();
        for (key, value) in data {
            let Ok(config) = serde_json::from_slice::<serde_json::Value>(&value.0) else { continue };
            match key.as_str() {
                ".dockerconfigjson" => found.extend(matching(&config["auths"], image)),
                ".dockercfg" => found.extend(matching(&config, image)),
                _ => {}
            }
        }
    }
    found
}

fn matching(auths: &serde_json::Value, image: &str) -> Vec<ImageAuth> {
    let image = full_name(image);
    let entries = auths.as_object().into_iter().flatten();
    entries.filter(|(registry, _)| fits(registry, &image)).map(|(_, entry)| auth(entry)).collect()
}

/// Whether credentials for `registry` (`host[/path]`, perhaps with a scheme) serve the image.
fn fits(registry: &str, image: &str) -> bool {
    let registry = registry.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let registry = registry.trim_end_matches("/v1").trim_end_matches("/v2");
    let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
    image == registry || image.strip_prefix(registry).is_some_and(|rest| rest.starts_with(['/', ':', '@']))
}

fn full_name(image: &str) -> String {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    }
}

fn auth(entry: &serde_json::Value) -> ImageAuth {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let mut auth =
        ImageAuth { username: text("username"), password: text("password"), registry_token: text("registrytoken") };
    let decoded = STANDARD.decode(text("auth")).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some((username, password)) = decoded.as_deref().and_then(|pair| pair.split_once(':')) {
        auth.username = username.to_owned();
        auth.password = password.to_owned();
    }
    auth
}

fn check_name(name: &str) -> Result<(), Failure> {
    let path = name.split('@').next().unwrap_or_default();
    let (repository, tag) = match path.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (path, None),
    };
    let after_host = match repository.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => repository,
    };
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
    let good_tag = |tag: &str| {
        !tag.is_empty() && tag.len() <= 128 && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    let starts_well = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric());
    if after_host.chars().all(good) && after_host.split('/').all(starts_well) && tag.is_none_or(good_tag) {
        return Ok(());
    }
    let message = format!(
        "Failed to apply default image tag \"{name}\": couldn't parse image name \"{name}\": invalid reference format"
    );
    Err(Failure::new("InvalidImageName", message))
}

fn default_policy(name: &str) -> &'static str {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains('@') || (last.contains(':') && !last.ends_with(":latest")) { "IfNotPresent" } else { "Always" }
}

/// A duration in the precision of upstream's messages: `1.234s`, `56ms`.
fn short(duration: Duration) -> String {
    if duration.as_secs() >= 60 {
        crate::backoff::go_duration(Duration::from_secs(duration.as_secs()))
    } else if duration.as_secs() >= 1 {
        format!("{:.3}s", duration.as_secs_f64())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_are_checked() {
        let check = |name: &str, good: bool| assert_eq!(check_name(name).is_ok(), good, "{name}");
        check("busybox", true);
        check("localhost:5000/a/b:v1", true);
        check("a@sha256:1234", true);
        check("Busy Box", false);
        check("a:", false);
        check("", false);
        check("/x", false);
    }

    #[test]
    fn credentials_fit_their_registry() {
        let check = |registry: &str, image: &str, fit: bool| assert_eq!(fits(registry, &full_name(image)), fit);
        check("https://index.docker.io/v1/", "busybox", true);
        check("localhost:5000", "localhost:5000/a", true);
        check("quay.io/team", "quay.io/team/app:1", true);
        check("quay.io/team", "quay.io/teammate/app:1", false);
    }
}
