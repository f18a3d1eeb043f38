//! A small web in the cluster: a Deployment of pods with pages, and their Service.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Error;
use crate::client::Call;
use crate::cluster::{Cluster, bytes};
use crate::measures::lost::{Lost, Stage};
use crate::measures::timeline::Timeline;

const NAME: &str = "web";
const PORT: u16 = 8080;
/// Bytes of the large page.
const LARGE: usize = 16 << 20;
/// How often a Deployment is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// All pods must be available by then; an image may have to be pulled.
const AVAILABLE: Duration = Duration::from_secs(120);
/// A page that takes longer is lost.
const PAGE_PATIENCE: Duration = Duration::from_secs(10);
/// Seconds before a pod is sent SIGTERM, as is usual: whoever had heard of it may still come. This server does not hear it,
/// and serves for all of the pod's grace.
const LAST: u32 = 2;

/// The pods and their Service, in a namespace of their own.
pub(super) struct Web<'a> {
    cluster: &'a Cluster,
    namespace: String,
    /// Where the Service is.
    pub(super) service: SocketAddr,
}

/// Which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Small,
    /// Of [`LARGE`] bytes.
    Large,
}

impl<'a> Web<'a> {
    /// Makes it, and waits until all pods are available. The image is of busybox.
    pub(super) async fn start(cluster: &'a Cluster, part: &str, image: &str, replicas: usize) -> Result<Self, Error> {
        let start = Instant::now();
        let namespace = cluster.namespace(part).await?;
        let deployments = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
        let services = format!("/api/v1/namespaces/{namespace}/services");
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
            "spec": {"selector": {"app": NAME}, "ports": [{"port": 80, "targetPort": PORT}]},
        });
        cluster.client.call(&Call::post(services.clone(), bytes(&service))).await?;
        let made = cluster.client.json(&Call::get(format!("{services}/{NAME}"))).await?;
        let field = Error::Answer { method: "GET", path: services, field: "spec.clusterIP" };
        let service = made["spec"]["clusterIP"].as_str().and_then(|text| text.parse::<IpAddr>().ok()).ok_or(field)?;
        let web = Self { cluster, namespace, service: (service, 80).into() };
        cluster.client.call(&Call::post(deployments, deployment(image, replicas))).await?;
        web.settled().await?;
        // The node's rules come a moment later.
        while fetch(web.service, Page::Small).await.is_err() {
            check(start, "the Service answering (does a proxy run on this machine?)")?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(web)
    }

    fn deployment(&self) -> String {
        format!("/apis/apps/v1/namespaces/{}/deployments/{NAME}", self.namespace)
    }

    /// Waits until the Deployment is what it is to be, and the pods that were are gone.
    pub(super) async fn settled(&self) -> Result<(), Error> {
        let start = Instant::now();
        while !self.is_settled().await? {
            check(start, "pods being available (does a kubelet run, and is --pods-image of busybox?)")?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn is_settled(&self) -> Result<bool, Error> {
        let found = self.cluster.client.json(&Call::get(self.deployment())).await?;
        let wanted = &found["spec"]["replicas"];
        let counts = ["replicas", "updatedReplicas", "availableReplicas"];
        let is_done = found["status"]["observedGeneration"] == found["metadata"]["generation"]
            && counts.iter().all(|count| found["status"][count] == *wanted);
        Ok(is_done && self.pods().await?.len() as u64 == wanted.as_u64().unwrap_or_default())
    }

    async fn pods(&self) -> Result<Vec<Value>, Error> {
        let path = format!("/api/v1/namespaces/{}/pods", self.namespace);
        let mut found = self.cluster.client.json(&Call::get(path)).await?;
        Ok(found["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Where the pods are.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, Error> {
        let ips = self.pods().await?;
        let ips = ips.iter().filter_map(|pod| pod["status"]["podIP"].as_str()?.parse::<IpAddr>().ok());
        Ok(ips.map(|ip| (ip, PORT).into()).collect())
    }

    /// Has all pods replaced, as `kubectl rollout restart` does, and waits until they are.
    pub(super) async fn roll(&self, number: usize) -> Result<(), Error> {
        let annotations = json!({"load.coracle.dev/roll": number.to_string()});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        self.cluster.client.call(&Call::merge_patch(self.deployment(), bytes(&patch))).await?;
        self.settled().await
    }

    /// Follows what happens to its pods from now on.
    pub(super) async fn timeline(&self) -> Result<Timeline, Error> {
        Timeline::start(&self.cluster.client, &self.namespace).await
    }

    /// Removes it.
    pub(super) async fn remove(self) -> Result<(), Error> {
        self.cluster.delete_namespace(&self.namespace).await.map(drop)
    }
}

fn check(start: Instant, what: &str) -> Result<(), Error> {
    let is_late = start.elapsed() > AVAILABLE;
    if is_late { Err(Error::TimedOut { what: what.to_owned(), seconds: AVAILABLE.as_secs() }) } else { Ok(()) }
}

fn deployment(image: &str, replicas: usize) -> Bytes {
    let serve = format!(
        "mkdir /tmp/w && echo page > /tmp/w/index.html && head -c {LARGE} /dev/zero > /tmp/w/large && \
         exec httpd -f -p {PORT} -h /tmp/w"
    );
    let container = json!({
        "name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", serve],
        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": LAST}}},
    });
    let spec =
        json!({"automountServiceAccountToken": false, "terminationGracePeriodSeconds": 5, "containers": [container]});
    bytes(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": NAME}},
            "template": {"metadata": {"labels": {"app": NAME}}, "spec": spec},
        },
    }))
}

/// Fetches a page over a connection of its own; answers its size in bytes, or how it was lost.
pub(super) async fn fetch(from: SocketAddr, page: Page) -> Result<u64, Lost> {
    let mut stage = Stage::Connecting;
    match tokio::time::timeout(PAGE_PATIENCE, fetch_at_leisure(from, page, &mut stage)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(err)) => Err(Lost::by(stage, err.kind())),
        Err(_) => Err(Lost::by(stage, io::ErrorKind::TimedOut)),
    }
}

async fn fetch_at_leisure(from: SocketAddr, page: Page, stage: &mut Stage) -> io::Result<Result<u64, Lost>> {
    let (path, least) = match page {
        Page::Small => ("/", 1),
        Page::Large => ("/large", LARGE as u64),
    };
    let mut stream = TcpStream::connect(from).await?;
    *stage = Stage::Writing;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    *stage = Stage::Waiting;
    let (mut buffer, mut length) = (vec![0; 256 * 1024], 0);
    let mut head = Vec::new();
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(Lost::of_answer(&head, length, least).map_or(Ok(length), Err));
        }
        *stage = Stage::Reading;
        if head.len() < 16 {
            head.extend(buffer[..read].iter().take(16));
        }
        length += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Asks a server that accepts one connection and does `what` with it.
    async fn ask<F: Future<Output = ()> + Send>(
        what: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) -> Result<u64, Lost> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = async move {
            let (stream, _) = listener.accept().await.unwrap();
            what(stream).await;
        };
        tokio::join!(fetch(address, Page::Small), serving).0
    }

    async fn read_request(stream: &mut TcpStream) {
        let mut request = [0; 256];
        assert!(stream.read(&mut request).await.unwrap() > 0);
    }

    #[tokio::test]
    async fn a_page_is_fetched_or_told_as_lost_by_what_became_of_it() {
        let page = ask(|mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\npage\n").await.unwrap();
        });
        assert_eq!(page.await, Ok(24));
        let refusal = ask(|mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").await.unwrap();
        });
        assert_eq!(refusal.await, Err(Lost::Status(404)));
        let nothing = ask(|mut stream| async move { read_request(&mut stream).await });
        assert_eq!(nothing.await, Err(Lost::Short));
        // Whoever ends with a request unread is reset by the kernel.
        let reset = ask(|stream| async move { assert_eq!(stream.peek(&mut [0]).await.unwrap(), 1) });
        assert_eq!(reset.await, Err(Lost::ResetWhileWaiting));
        let within = ask(|mut stream| async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
            assert_eq!(stream.peek(&mut [0]).await.unwrap(), 1);
            tokio::time::sleep(Duration::from_millis(100)).await;
        });
        assert_eq!(within.await, Err(Lost::ResetWhileReading));
    }

    #[tokio::test]
    async fn nobody_listening_is_told_as_refused() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(fetch(address, Page::Small).await, Err(Lost::Refused));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_a_timeout_of_the_answer() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(fetch(address, Page::Small).await, Err(Lost::AnswerTimeout));
    }
}
