//! RuntimeClasses: this node has one way to run pods, so a pod that asks for another is refused with upstream's words
//! (upstream: pkg/kubelet/runtimeclass).
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;

use crate::failure::{Failure, answer};
use crate::pod;

/// The handler of this node's runtime; an empty one is the default, which is the same.
const HANDLER: &str = "coracle";

/// Looks up the pod's RuntimeClass, if it names one, and checks its handler.
pub(crate) async fn check(client: kube::Client, pod: &Pod) -> Result<(), Failure> {
    let wrong = |why: String| Failure::new("FailedCreatePodSandBox", why);
    let Some(name) = pod::spec(pod).runtime_class_name.as_deref().filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let class = Api::<RuntimeClass>::all(client).get(name).await;
    let class = class.map_err(|err| wrong(format!("failed to get sandbox runtime: {}", answer(&err))))?;
    runs_here(&class).map_err(wrong)
}

fn runs_here(class: &RuntimeClass) -> Result<(), String> {
    match class.handler.as_str() {
        "" | HANDLER => Ok(()),
        other => Err(format!("failed to get sandbox runtime: no runtime for \"{other}\" is configured")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_handler_runs_here() {
        let class = |handler: &str| RuntimeClass { handler: handler.to_owned(), ..RuntimeClass::default() };
        assert!(runs_here(&class("coracle")).is_ok());
        assert!(runs_here(&class("gvisor")).unwrap_err().contains("no runtime for \"gvisor\" is configured"));
    }
}
