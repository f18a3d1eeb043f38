//! One attempt of a probe (upstream: pkg/kubelet/prober/prober.go).
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};

use crate::context::Context;
use crate::handlers::grpc_action;
use crate::handlers::http_action::{self, Error};

/// Asks once; an error holds the words for the `Unhealthy` event, a success perhaps those for a `ProbeWarning`.
pub(super) async fn once(
    context: &Context,
    container: &Container,
    id: &str,
    pod_ip: Option<IpAddr>,
    probe: &Probe,
    limit: Duration,
) -> Result<Option<String>, String> {
    if let Some(exec) = &probe.exec {
        return run(context, id, exec.command.as_deref().unwrap_or_default(), limit).await.map(|()| None);
    }
    if context.hollow {
        // Nobody is at the address.
        return Ok(None);
    }
    let address = || pod_ip.ok_or_else(|| "the pod has no address".to_owned());
    if let Some(action) = &probe.http_get {
        let answer = http_action::within(limit, http_action::get(action, container, pod_ip, "kube-probe/1.36"));
        return match answer.await {
            Ok((status, _)) if status.is_success() => Ok(None),
            Ok((status, body)) if status.is_redirection() => {
                Ok(Some(format!("Probe terminated redirects, Response body: {body}")))
            }
            Ok((status, _)) => Err(format!("HTTP probe failed with statuscode: {}", status.as_u16())),
            Err(err) => {
                let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
                let host = action.host.clone().or(pod_ip.map(|ip| ip.to_string())).unwrap_or_default();
                let port = http_action::port_number(container, &action.port).unwrap_or(0);
                let path = action.path.as_deref().unwrap_or("/");
                Err(format!("Get \"{scheme}://{}{path}\": {err}", http_action::host_port(&host, port)))
            }
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let port = http_action::port_number(container, &action.port).map_err(|err| err.to_string())?;
        let host = match action.host.as_deref().filter(|host| !host.is_empty()) {
            Some(host) => host.to_owned(),
            None => address()?.to_string(),
        };
        return match http_action::within(limit, http_action::tcp(&host, port)).await {
            Ok(()) => Ok(None),
            Err(Error::Timeout) => Err(format!("dial tcp {}: i/o timeout", http_action::host_port(&host, port))),
            Err(other) => Err(other.to_string()),
        };
    }
    if let Some(action) = &probe.grpc {
        return grpc_action::health(action, address()?, limit).await.map(|()| None);
    }
    Err("the probe has no exec, httpGet, tcpSocket or grpc action".to_owned())
}

async fn run(context: &Context, id: &str, command: &[String], limit: Duration) -> Result<(), String> {
    match context.runtime.exec_sync(id, command, limit).await {
        Ok(output) if output.exit_code == 0 => Ok(()),
        Ok(output) => {
            let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
            Err(String::from_utf8_lossy(&both).into_owned())
        }
        Err(runtime::Error::Timeout { .. }) => Err(format!(
            "command timed out: \"{}\" timed out after {}",
            command.join(" "),
            crate::backoff::go_duration(limit)
        )),
        Err(err) => Err(err.to_string()),
    }
}
