//! A storage driver: it registers with a kubelet and serves `csi.v1.Node` on unix sockets, as well or as badly as a test
//! wants.
// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub)]
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::body::Body;
use tonic_prost::ProstCodec;

use messages::{Empty, NodeInfo, PluginInfo, RegistrationStatus, Topology};

pub mod messages;

/// How a call is answered, other than well.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// Never.
    Hang,
    /// With this error.
    Fail(tonic::Code),
    /// With so many bytes of text in it.
    Flood(usize),
}

/// What the driver is like, and what it was asked.
#[derive(Debug, Default)]
pub struct Mind {
    pub node_id: String,
    pub max_volumes: i64,
    pub segments: messages::Pairs,
    /// By the last word of the method.
    pub trouble: BTreeMap<String, Trouble>,
    /// What the kubelet said of the registration.
    pub told: Vec<RegistrationStatus>,
}

/// A running driver; dropping it takes it away, with its sockets.
pub struct Driver {
    pub name: String,
    mind: Arc<Mutex<Mind>>,
    registration: PathBuf,
    endpoint: PathBuf,
    _running: JoinSet<()>,
}

impl Driver {
    /// One that registers with the kubelet whose directory is `root`.
    pub fn start(root: &Path, name: &str) -> Self {
        Self::of_kind(root, name, "CSIPlugin", Mind { node_id: "the-node".into(), ..Mind::default() })
    }

    pub fn of_kind(root: &Path, name: &str, kind: &str, mind: Mind) -> Self {
        let mind = Arc::new(Mutex::new(mind));
        let place = root.join("plugins").join(name);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::create_dir_all(root.join("plugins_registry")).unwrap();
        let (endpoint, registration) = (place.join("csi.sock"), root.join(format!("plugins_registry/{name}-reg.sock")));
        let mut running = JoinSet::new();
        for path in [&endpoint, &registration] {
            // One that ended before has left its socket.
            let _none = std::fs::remove_file(path);
            let listener = UnixListener::bind(path).unwrap();
            let info = PluginInfo {
                kind: kind.into(),
                name: name.into(),
                endpoint: endpoint.to_str().unwrap().into(),
                versions: vec!["1.0.0".into()],
            };
            running.spawn(serve(listener, info, Arc::clone(&mind)));
        }
        Self { name: name.into(), mind, registration, endpoint, _running: running }
    }

    pub fn mind(&self) -> MutexGuard<'_, Mind> {
        self.mind.lock().unwrap()
    }

    pub fn trouble(&self, method: &str, trouble: Trouble) {
        self.mind().trouble.insert(method.into(), trouble);
    }

    pub fn recover(&self) {
        self.mind().trouble.clear();
    }

    /// The last that the kubelet said of the registration.
    pub async fn told(&self) -> RegistrationStatus {
        loop {
            if let Some(told) = self.mind().told.last() {
                return told.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.registration);
        let _gone = std::fs::remove_file(&self.endpoint);
    }
}

async fn serve(listener: UnixListener, info: PluginInfo, mind: Arc<Mutex<Mind>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (mind, info) = (Arc::clone(&mind), info.clone());
        let service = service_fn(move |request| answer(request, info.clone(), Arc::clone(&mind)));
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        connections.spawn(async move {
            let _lost = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    info: PluginInfo,
    mind: Arc<Mutex<Mind>>,
) -> Result<Response<Body>, Infallible> {
    let request = request.map(Body::new);
    let method = request.uri().path().to_owned();
    let word = method.rsplit('/').next().unwrap_or_default().to_owned();
    let trouble = mind.lock().unwrap().trouble.get(&word).cloned();
    match trouble {
        Some(Trouble::Hang) => std::future::pending().await,
        Some(Trouble::Fail(code)) => {
            return Ok(unary(move |_: Empty| Err::<Empty, _>(Status::new(code, "as the test wants")), request).await);
        }
        Some(Trouble::Flood(bytes)) => {
            return Ok(unary(
                move |_: Empty| Ok(NodeInfo { node_id: "x".repeat(bytes), ..NodeInfo::default() }),
                request,
            )
            .await);
        }
        None => {}
    }
    Ok(match method.as_str() {
        "/pluginregistration.Registration/GetInfo" => unary(move |_: Empty| Ok(info.clone()), request).await,
        "/pluginregistration.Registration/NotifyRegistrationStatus" => {
            let hear = move |told: RegistrationStatus| {
                mind.lock().unwrap().told.push(told);
                Ok(Empty {})
            };
            unary(hear, request).await
        }
        "/csi.v1.Node/NodeGetInfo" => {
            let tell = move |_: Empty| {
                let mind = mind.lock().unwrap();
                let topology = Some(Topology { segments: mind.segments.clone() });
                Ok(NodeInfo { node_id: mind.node_id.clone(), max_volumes: mind.max_volumes, topology })
            };
            unary(tell, request).await
        }
        other => panic!("{other} is no call of a driver"),
    })
}

/// A call of one request and one answer.
struct Unary<Q, A>(Box<dyn Fn(Q) -> Result<A, Status> + Send + Sync>);

impl<Q, A> tonic::server::UnaryService<Q> for Unary<Q, A> {
    type Response = A;
    type Future = std::future::Ready<Result<tonic::Response<A>, Status>>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        std::future::ready((self.0)(request.into_inner()).map(tonic::Response::new))
    }
}

async fn unary<Q, A>(
    respond: impl Fn(Q) -> Result<A, Status> + Send + Sync + 'static,
    request: Request<Body>,
) -> Response<Body>
where
    Q: prost::Message + Default + 'static,
    A: prost::Message + Default + 'static,
{
    let mut grpc = tonic::server::Grpc::new(ProstCodec::<A, Q>::default());
    grpc.unary(Unary(Box::new(respond)), request).await
}
