//! The gate of a component's HTTPS endpoint ([`daemon::SecureArgs`]): who comes is known by the certificate or token, and
//! may read what the API server says.

use std::path::Path;
use std::time::Duration;

use daemon::{
    Caller, Gate, Metrics, Names, Process, ReadyWatch, Refusal, Secure, SecureArgs, SecureError, ServerTlsError,
    Supervisor,
};
use http::StatusCode;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::reviews::{Deed, Memory, Reviews, User};

pub use daemon::Door;

/// Where the API server says who signs the certificates of clients.
const PUBLISHED: (&str, &str, &str) = ("kube-system", "extension-apiserver-authentication", "client-ca-file");
/// How long one waits for the API server to say it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The endpoint cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum DelegatedError {
    #[error(transparent)]
    Secure(#[from] SecureError),
    #[error("--client-ca-file")]
    Authority(#[from] ServerTlsError),
    #[error("connect by --{flag}")]
    Connect {
        flag: &'static str,
        #[source]
        source: crate::Error,
    },
    #[error("look up who signs client certificates (give --client-ca-file, or --authentication-skip-lookup): {reason}")]
    LookUp { reason: String },
}

/// A component's HTTPS endpoint, bound and ready to serve.
pub struct SecureEndpoint(Secure<Delegated>);

impl SecureEndpoint {
    /// Binds the endpoint that the flags ask for; `None` when it is turned off.
    pub async fn open(args: &SecureArgs, door: Door) -> Result<Option<Self>, DelegatedError> {
        if args.secure_port == Some(0) {
            return Ok(None);
        }
        let memory = Memory {
            identified: args.authentication_token_webhook_cache_ttl,
            allowed: args.authorization_webhook_cache_authorized_ttl,
            denied: args.authorization_webhook_cache_unauthorized_ttl,
        };
        let connect = async |flag, path: Option<&Path>| {
            let Some(path) = path else { return Ok(None) };
            let client = crate::connect(Some(path), door.name).await;
            client.map(Some).map_err(|source| DelegatedError::Connect { flag, source })
        };
        let authentication = connect("authentication-kubeconfig", args.authentication_kubeconfig.as_deref()).await?;
        let authorization = connect("authorization-kubeconfig", args.authorization_kubeconfig.as_deref()).await?;
        let client_ca = client_ca(args, authentication.as_ref()).await?;
        let gate = Delegated {
            tokens: authentication.map(|client| Reviews::new(client, memory)),
            rights: authorization.map(|client| Reviews::new(client, memory)),
        };
        Ok(args.bind(door, client_ca, gate).await?.map(Self))
    }

    /// Serves until `shutdown`.
    pub async fn serve(self, metrics: Metrics, ready: ReadyWatch, shutdown: CancellationToken) {
        self.0.serve(metrics, ready, shutdown).await;
    }
}

/// Runs a component with its endpoint, if it has one, until the one or the other ends.
pub async fn beside<Run, Running, E>(
    endpoint: Option<SecureEndpoint>,
    process: Process,
    component: Run,
) -> anyhow::Result<()>
where
    Run: FnOnce(Process) -> Running,
    Running: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<anyhow::Error>,
{
    let mut tasks = Supervisor::new(process.shutdown.clone());
    if let Some(endpoint) = endpoint {
        let (metrics, ready) = (process.metrics.clone(), process.ready.watch());
        tasks.add("secure endpoint", move |shutdown| async move {
            endpoint.serve(metrics, ready, shutdown).await;
            anyhow::Ok(())
        });
    }
    tasks.add("component", move |shutdown| component(Process { shutdown, ..process }));
    tasks.run().await
}

async fn client_ca(
    args: &SecureArgs,
    client: Option<&kube::Client>,
) -> Result<Vec<CertificateDer<'static>>, DelegatedError> {
    if let Some(path) = &args.client_ca_file {
        return Ok(daemon::certificates_from(path)?);
    }
    let Some(client) = client.filter(|_| !args.authentication_skip_lookup) else { return Ok(Vec::new()) };
    match published(client).await {
        Ok(found) => Ok(found),
        Err(reason) if args.authentication_tolerate_lookup_failure => {
            warn!(reason, "who signs client certificates could not be looked up: none are taken");
            Ok(Vec::new())
        }
        Err(reason) => Err(DelegatedError::LookUp { reason }),
    }
}

async fn published(client: &kube::Client) -> Result<Vec<CertificateDer<'static>>, String> {
    let (namespace, name, key) = PUBLISHED;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = tokio::time::timeout(PATIENCE, api.get(name)).await.map_err(|_| "no answer in time".to_owned())?;
    let data = found.map_err(|err| err.to_string())?.data.unwrap_or_default();
    let pem = data.get(key).ok_or_else(|| format!("{namespace}/{name} has no {key}"))?;
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|err| err.to_string())
}

/// Asks the API server about everybody; without a way to ask, nobody is known by a token, and only masters may.
struct Delegated {
    tokens: Option<Reviews>,
    rights: Option<Reviews>,
}

impl Gate for Delegated {
    async fn judge(&self, caller: Caller) -> Result<(), Refusal> {
        let Caller { certificate, token, verb, path } = caller;
        let user = match (certificate, token, &self.tokens) {
            (Some(Names { common, organizations }), _, _) => User::of_certificate(common, organizations),
            (None, Some(token), Some(tokens)) => {
                tokens.identify(&token).await.map_err(|err| unknown(&err))?.ok_or_else(unauthorized)?
            }
            _ => User::anonymous(),
        };
        if user.is_master() {
            return Ok(());
        }
        let deed = Deed::Path { verb, path };
        let allowed = match &self.rights {
            Some(rights) => rights.is_allowed(&user, &deed).await.map_err(|err| unknown(&err))?,
            None => false,
        };
        if allowed { Ok(()) } else { Err(forbidden(&user, &deed)) }
    }
}

fn unauthorized() -> Refusal {
    refusal(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
}

fn forbidden(user: &User, deed: &Deed) -> Refusal {
    let what = match deed {
        Deed::Path { verb, path } => format!("{verb} path {path:?}"),
        Deed::Node { verb, name, subresource } => format!("{verb} nodes/{subresource} {name:?}"),
    };
    refusal(StatusCode::FORBIDDEN, "Forbidden", &format!("forbidden: User {:?} cannot {what}", user.name))
}

/// The API server does not answer. Whoever may ask for anything could fill the log: it is told at a low level.
fn unknown(err: &kube::Error) -> Refusal {
    debug!(error = err as &dyn std::error::Error, "cannot ask the API server who may do what");
    refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "the API server cannot be asked who may do this")
}

/// A `Status`, as the API server writes it.
fn refusal(status: StatusCode, reason: &str, message: &str) -> Refusal {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": {}, "code": status.as_u16(),
    });
    Refusal { status, body: format!("{body}\n") }
}

#[cfg(test)]
mod tests;
