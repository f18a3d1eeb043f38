//! Lifecycle hooks: what a container asks to be done after its start and before its stop (upstream: HandlerRunner of
//! pkg/kubelet/lifecycle).
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler};

use crate::context::Context;
use crate::handlers::http_action;

/// A command with no time limit of its own is bounded by the caller; this only keeps the runtime call finite.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Runs a hook to its end; an error says why it failed.
pub(crate) async fn run(
    context: &Context,
    container: &Container,
    id: &str,
    pod_ip: Option<IpAddr>,
    hook: &LifecycleHandler,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let output = context.runtime.exec_sync(id, &command, LONGEST).await.map_err(|err| err.to_string())?;
        return match output.exit_code {
            0 => Ok(()),
            code => Err(format!("command '{}' exited with {code}: {}", command.join(" "), text(&output))),
        };
    }
    if let Some(action) = &hook.http_get {
        if context.hollow {
            // Nobody is at the address.
            return Ok(());
        }
        return get(container, pod_ip, action).await;
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    Err("the hook has no exec, httpGet or sleep action; tcpSocket hooks are not supported".to_owned())
}

async fn get(container: &Container, pod_ip: Option<IpAddr>, action: &HTTPGetAction) -> Result<(), String> {
    let answer = http_action::get(action, container, pod_ip, "kube-lifecycle/1.36");
    // As upstream: a hook succeeds once the server has answered, whatever it says.
    answer.await.map(drop).map_err(|err| err.to_string())
}

fn text(output: &runtime::ExecOutput) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).trim().to_owned()
}
