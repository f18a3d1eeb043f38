//! A key management service on a unix socket. Its messages are declared here once more, by their field numbers: what
//! the server sends must be readable by others.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::body::Body;
use tonic_prost::ProstCodec;

const ANNOTATION: &str = "generation.plugin.test";

#[derive(Clone, prost::Message)]
struct Empty {}

#[derive(Clone, prost::Message)]
struct StatusAnswer {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    healthz: String,
    #[prost(string, tag = "3")]
    key_id: String,
}

#[derive(Clone, prost::Message)]
struct ToEncrypt {
    #[prost(bytes = "vec", tag = "1")]
    plaintext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
}

#[derive(Clone, prost::Message)]
struct Encrypted {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "3")]
    annotations: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, prost::Message)]
struct ToDecrypt {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "4")]
    annotations: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, prost::Message)]
struct Decrypted {
    #[prost(bytes = "vec", tag = "1")]
    plaintext: Vec<u8>,
}

/// What the service is like now, and what it was asked.
pub(crate) struct Mind {
    pub(crate) key_id: String,
    pub(crate) healthz: String,
    encrypted: usize,
    decrypted: usize,
}

/// A running service; dropping it takes it away, with its socket.
pub(crate) struct Plugin {
    mind: Arc<Mutex<Mind>>,
    _running: JoinSet<()>,
}

impl Plugin {
    pub(crate) fn start(socket: &Path, key_id: &str) -> Self {
        // One that ended before has left its socket.
        let _none = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let mind = Mind { key_id: key_id.into(), healthz: "ok".into(), encrypted: 0, decrypted: 0 };
        let mind = Arc::new(Mutex::new(mind));
        let mut running = JoinSet::new();
        running.spawn(serve(listener, mind.clone()));
        Self { mind, _running: running }
    }

    /// How often it was asked to encrypt, and to decrypt.
    pub(crate) fn calls(&self) -> (usize, usize) {
        let mind = self.mind();
        (mind.encrypted, mind.decrypted)
    }

    pub(crate) fn mind(&self) -> MutexGuard<'_, Mind> {
        self.mind.lock().unwrap()
    }
}

async fn serve(listener: UnixListener, mind: Arc<Mutex<Mind>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let mind = mind.clone();
        let service = service_fn(move |request| answer(request, mind.clone()));
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        connections.spawn(server.serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(request: Request<Incoming>, mind: Arc<Mutex<Mind>>) -> Result<Response<Body>, Infallible> {
    let request = request.map(Body::new);
    Ok(match request.uri().path() {
        "/v2.KeyManagementService/Status" => {
            let status = move |_: Empty| {
                let mind = mind.lock().unwrap();
                Ok(StatusAnswer { version: "v2".into(), healthz: mind.healthz.clone(), key_id: mind.key_id.clone() })
            };
            unary(status, request).await
        }
        "/v2.KeyManagementService/Encrypt" => unary(move |asked| encrypt(&asked, &mind), request).await,
        "/v2.KeyManagementService/Decrypt" => unary(move |asked| decrypt(&asked, &mind), request).await,
        other => panic!("{other} is no call of the service"),
    })
}

fn encrypt(asked: &ToEncrypt, mind: &Mutex<Mind>) -> Result<Encrypted, Status> {
    assert!(asked.plaintext.len() == 32 && !asked.uid.is_empty());
    let mut mind = mind.lock().unwrap();
    mind.encrypted += 1;
    let mut ciphertext = format!("{}:", mind.key_id).into_bytes();
    ciphertext.extend(asked.plaintext.iter().map(|byte| byte ^ 0x5a));
    let annotations = BTreeMap::from([(ANNOTATION.to_owned(), b"1".to_vec())]);
    Ok(Encrypted { ciphertext, key_id: mind.key_id.clone(), annotations })
}

fn decrypt(asked: &ToDecrypt, mind: &Mutex<Mind>) -> Result<Decrypted, Status> {
    mind.lock().unwrap().decrypted += 1;
    let sealed = asked.ciphertext.strip_prefix(format!("{}:", asked.key_id).as_bytes());
    let annotated = asked.annotations.get(ANNOTATION).is_some_and(|value| value == b"1");
    let sealed = sealed.filter(|_| annotated).ok_or_else(|| Status::invalid_argument("not sealed here"))?;
    Ok(Decrypted { plaintext: sealed.iter().map(|byte| byte ^ 0x5a).collect() })
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
