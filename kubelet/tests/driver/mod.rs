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

use messages::{
    Capabilities, Capability, Empty, Expand, NodeInfo, PluginInfo, Publish, RegistrationStatus, Rpc, Stage, Stats,
    Topology, Undo, Usage,
};

pub mod messages;

/// Something that the driver was asked to do with a volume.
#[derive(Clone, Debug)]
pub enum Call {
    Stage(Stage),
    Publish(Publish),
    Expand(Expand),
    Unpublish(Undo),
    Unstage(Undo),
}

impl Call {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Stage(_) => "stage",
            Self::Publish(_) => "publish",
            Self::Expand(_) => "expand",
            Self::Unpublish(_) => "unpublish",
            Self::Unstage(_) => "unstage",
        }
    }
}

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
    /// What it can do, by the specification's numbers.
    pub capabilities: Vec<i32>,
    /// Where volumes lie, of a driver that mounts them. Others make a directory and no more.
    pub disk: Option<PathBuf>,
    /// What it was asked to do with volumes, in order.
    pub calls: Vec<Call>,
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
        Self::of_kind(
            root,
            name,
            "CSIPlugin",
            Mind { node_id: "the-node".into(), capabilities: vec![1], ..Mind::default() },
        )
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

    /// The words of what it was asked, in order.
    pub fn words(&self) -> Vec<&'static str> {
        self.mind().calls.iter().map(Call::word).collect()
    }

    pub fn staged(&self) -> Option<Stage> {
        self.mind()
            .calls
            .iter()
            .rev()
            .find_map(|call| if let Call::Stage(stage) = call { Some(stage.clone()) } else { None })
    }

    pub fn published(&self) -> Option<Publish> {
        let mind = self.mind();
        mind.calls
            .iter()
            .rev()
            .find_map(|call| if let Call::Publish(publish) = call { Some(publish.clone()) } else { None })
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
        "/csi.v1.Node/NodeGetCapabilities" => {
            let tell = move |_: Empty| {
                let all = mind.lock().unwrap().capabilities.clone();
                let all = all.into_iter().map(|kind| Capability { rpc: Some(Rpc { kind }) }).collect();
                Ok(Capabilities { all })
            };
            unary(tell, request).await
        }
        "/csi.v1.Node/NodeStageVolume" => unary(move |asked| act(Call::Stage(asked), &mind), request).await,
        "/csi.v1.Node/NodePublishVolume" => unary(move |asked| act(Call::Publish(asked), &mind), request).await,
        "/csi.v1.Node/NodeExpandVolume" => unary(move |asked| act(Call::Expand(asked), &mind), request).await,
        "/csi.v1.Node/NodeGetVolumeStats" => {
            let tell = |_: Undo| Ok(Stats { usage: vec![Usage { total: 100, used: 42, unit: 1 }] });
            unary(tell, request).await
        }
        "/csi.v1.Node/NodeUnpublishVolume" => unary(move |asked| act(Call::Unpublish(asked), &mind), request).await,
        "/csi.v1.Node/NodeUnstageVolume" => unary(move |asked| act(Call::Unstage(asked), &mind), request).await,
        other => panic!("{other} is no call of a driver"),
    })
}

/// Does what is asked of a volume, as often as it is asked.
fn act(call: Call, mind: &Mutex<Mind>) -> Result<Empty, Status> {
    let mut mind = mind.lock().unwrap();
    let done = match &call {
        Call::Stage(stage) if !Path::new(&stage.staging).is_dir() => Err("there is no staging path".into()),
        Call::Stage(_) | Call::Expand(_) | Call::Unstage(_) => Ok(()),
        Call::Publish(publish) => publish_at(Path::new(&publish.target), &publish.volume, mind.disk.as_deref()),
        Call::Unpublish(undo) => unpublish_at(Path::new(&undo.place), mind.disk.is_some()),
    };
    mind.calls.push(call);
    done.map(|()| Empty {}).map_err(|why| Status::internal(why.to_string()))
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn publish_at(target: &Path, volume: &str, disk: Option<&Path>) -> Outcome {
    if target.is_dir() {
        return Ok(());
    }
    std::fs::create_dir(target)?;
    let Some(disk) = disk else { return Ok(()) };
    let data = disk.join(volume);
    std::fs::create_dir_all(&data)?;
    Ok(rustix::mount::mount_bind(&data, target)?)
}

fn unpublish_at(target: &Path, mounts: bool) -> Outcome {
    if !target.exists() {
        return Ok(());
    }
    if mounts {
        let _not_mounted = rustix::mount::unmount(target, rustix::mount::UnmountFlags::empty());
    }
    Ok(std::fs::remove_dir(target)?)
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
