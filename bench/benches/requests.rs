//! Whole requests inside one API server: every stage from authentication to the commit (in memory) and the answer, without
//! sockets and TLS.
//!
//! `cargo bench -p coracle-bench --bench requests`; what the network adds, `load` shows.

use std::time::Duration;

use apiserver::testing::TestServer;
use axum::body::Body;
use bench::objects::{GROUP, idle_pod, number_patch, pod_name};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

daemon::allocator!();

const PODS: usize = 2000;
const WATCHERS: usize = 200;
const PATH: &str = "/api/v1/namespaces/default/pods";

/// A server with pods.
struct Serving {
    runtime: Runtime,
    server: TestServer,
    created: usize,
}

impl Serving {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = runtime.block_on(TestServer::start());
        let mut serving = Self { runtime, server, created: 0 };
        (0..PODS).for_each(|_| serving.create());
        serving
    }

    fn create(&mut self) {
        let pod = idle_pod(self.created);
        self.created += 1;
        self.runtime.block_on(self.whole(Method::POST, PATH.to_owned(), "application/json", pod));
    }

    async fn whole(&self, method: Method, path: String, content_type: &str, body: Bytes) -> usize {
        let answer = self.send(method, path, content_type, body).await;
        answer.into_body().collect().await.expect("a whole body").to_bytes().len()
    }

    async fn send(&self, method: Method, path: String, content_type: &str, body: Bytes) -> Response<Body> {
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        let request = request.body(Body::from(body)).expect("a valid request");
        let Ok(answer) = self.server.service().oneshot(request).await;
        assert!(answer.status().is_success(), "{}", answer.status());
        answer
    }

    async fn get(&self, path: String) -> usize {
        self.whole(Method::GET, path, "", Bytes::new()).await
    }

    async fn patch(&self, number: usize) {
        let path = format!("{PATH}/{}", pod_name(number * 7919 % PODS));
        self.whole(Method::PATCH, path, "application/merge-patch+json", number_patch("bench", number)).await;
    }

    /// Watchers that end when they have seen so many events.
    async fn watch(&self, events: usize) -> JoinSet<()> {
        let revision = self.server.server().registry().freshen().await.expect("the store answers");
        let mut watchers = JoinSet::new();
        for _ in 0..WATCHERS {
            let path = format!("{PATH}?watch=true&resourceVersion={revision}");
            let mut body = self.send(Method::GET, path, "", Bytes::new()).await.into_body();
            watchers.spawn(async move {
                let mut seen = 0;
                while seen < events {
                    let frame = body.frame().await.expect("the watch goes on").expect("no error");
                    seen += frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
                }
            });
        }
        watchers
    }
}

fn requests(criterion: &mut Criterion) {
    let mut serving = Serving::new();
    let mut number = 0;
    let mut next = move || {
        number += 1;
        number
    };
    criterion.bench_function("get", |bencher| {
        bencher.iter(|| serving.runtime.block_on(serving.get(format!("{PATH}/{}", pod_name(next() * 7919 % PODS)))));
    });
    criterion.bench_function("list by a label of 1 % of 2,000 pods", |bencher| {
        bencher
            .iter(|| serving.runtime.block_on(serving.get(format!("{PATH}?labelSelector={GROUP}%3D{}", next() % 100))));
    });
    criterion.bench_function("merge patch", |bencher| {
        bencher.iter(|| serving.runtime.block_on(serving.patch(next())));
    });
    criterion.bench_function("create", |bencher| bencher.iter(|| serving.create()));
}

fn fan_out(criterion: &mut Criterion) {
    const WRITES: usize = 100;
    let serving = Serving::new();
    let mut round = 0;
    let mut group = criterion.benchmark_group("fan-out");
    group.sample_size(10).throughput(Throughput::Elements((WATCHERS * WRITES) as u64));
    group.bench_function("200 watches, 100 patches", |bencher| {
        bencher.iter(|| {
            serving.runtime.block_on(async {
                let mut watchers = serving.watch(WRITES).await;
                for number in 0..WRITES {
                    serving.patch(round * WRITES + number).await;
                }
                round += 1;
                while let Some(watched) = watchers.join_next().await {
                    watched.expect("no panic");
                }
            });
        });
    });
}

criterion_group! {
    name = all;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = requests, fan_out
}
criterion_main!(all);
