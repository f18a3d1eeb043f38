//! `componentstatuses`, which are deprecated and not stored: whether the store and the other parts of the control plane are
//! well, asked when somebody wants to know (upstream's `registry/core/componentstatus`).

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use api::selector::{FieldSelector, LabelSelector};
use api::{ApiError, Object, Resource};
use axum::body::Body;
use futures::future::join_all;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use rustls::pki_types::ServerName;
use serde_json::json;

use crate::call::{Call, method_not_allowed};
use crate::core::Core;
use crate::error::with_causes;
use crate::handler::{made, made_list};
use crate::outbound::dial::{Reach, connect};
use crate::request::info::Deed;
use crate::response::Answer;

/// Where the others say how they are, on the machine of this server.
const SERVERS: [(&str, u16); 2] = [("controller-manager", 10257), ("scheduler", 10259)];
const STORE: &str = "etcd-0";
/// A part that says nothing for so long is not well.
const PATIENCE: Duration = Duration::from_secs(20);
/// More of what a part says is not read.
const MOST: usize = 10 * 1024;

/// Answers a request for one or all.
pub(super) async fn answer(call: &Call<'_>, row: &Arc<Resource>) -> Result<Answer, ApiError> {
    let name = call.info.name.as_str();
    match (&call.info.deed, call.info.is_item) {
        (Deed::Get, true) => {
            let known = name == STORE || SERVERS.iter().any(|(server, _)| *server == name);
            if !known {
                return Err(ApiError::unclassified(format!("Component not found: {name}")));
            }
            made(call, row, &status(call.core, name).await)
        }
        (Deed::List, false) => {
            let labels = LabelSelector::parse(call.query.get("labelSelector").unwrap_or(""))?;
            let fields = FieldSelector::parse(call.query.get("fieldSelector").unwrap_or(""), row)?;
            let names = [SERVERS[0].0, STORE, SERVERS[1].0].into_iter().filter(|one| name.is_empty() || *one == name);
            let mut all = join_all(names.map(|name| status(call.core, name))).await;
            all.retain(|one| labels.matches(one) && fields.matches(one));
            made_list(call, row, all)
        }
        _ => Err(method_not_allowed()),
    }
}

async fn status(core: &Core, name: &str) -> Object {
    let check = async {
        match SERVERS.iter().find(|(server, _)| *server == name) {
            // They end together with this process.
            Some(_) if core.config.is_whole_control_plane => Ok("ok".to_owned()),
            Some((_, port)) => ask(core, *port).await,
            None => core.registry.store().check().await.map(|()| "ok".to_owned()).map_err(|err| with_causes(&err)),
        }
    };
    let outcome = tokio::time::timeout(PATIENCE, check).await.unwrap_or_else(|_| Err("i/o timeout".into()));
    let status = if outcome.is_ok() { "True" } else { "False" };
    let mut condition = json!({"type": "Healthy", "status": status});
    match outcome {
        Err(why) if name == STORE => condition["error"] = why.into(),
        Ok(text) | Err(text) => condition["message"] = text.into(),
    }
    let tree = json!({
        "kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name}, "conditions": [condition],
    });
    Object::from_value(tree).expect("the tree is an object")
}

/// What a part says on its health path.
async fn ask(core: &Core, port: u16) -> Result<String, String> {
    let (host, name) = ("127.0.0.1", ServerName::IpAddress(Ipv4Addr::LOCALHOST.into()));
    let said = async {
        let tls = Some((daemon::unverified_tls(), name));
        let dialled = connect(host, port, tls, Reach::Anywhere, &core.connections, &core.shutdown).await;
        let mut sender = dialled.map_err(|err| format!("dial tcp {host}:{port}: {err}"))?;
        let request = Request::get("/healthz").header(HOST, format!("{host}:{port}")).body(Body::empty());
        let request = request.map_err(|err| err.to_string())?;
        let answer = sender.send_request(request).await.map_err(|err| err.to_string())?;
        let code = answer.status();
        let body = Limited::new(answer.into_body(), MOST).collect().await.map_err(|err| err.to_string())?;
        Ok::<_, String>((code, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    match said.await {
        Ok((code, text)) if code.is_success() || code.is_redirection() => Ok(text),
        Ok((code, _)) => Err(format!("HTTP probe failed with statuscode: {}", StatusCode::as_u16(&code))),
        Err(why) => Err(format!("Get \"https://{host}:{port}/healthz\": {why}")),
    }
}
