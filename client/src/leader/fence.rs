//! Refuses the writes of a process that cannot know any more that it leads.
//!
//! A leader that was stopped (SIGSTOP, a paused container, a machine that was suspended) goes on where it was: before any
//! of its timers has told it that others lead by now, it would send what it was about to send. So each write asks a clock
//! that runs on meanwhile, at the last moment before it is sent, whether the lease still lasts.
//!
//! ```text
//!  Api::create --> Fenced (any client) --> retries, headers --> Gate (clients of `connect`) --> HTTP/2
//!                    marks the request       may take a while      looks at the mark
//! ```
//! What has passed the gate when the process is stopped and still lies in its own buffers is refused by the API server: each
//! write names the lease that its sender holds ([`facts::held_lease`]). Servers that do not know the header take these, at most
//! the requests that were under way at that moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use facts::held_lease::{HELD_LEASE, HeldLease};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response};
use kube::client::Body;
use rustix::time::{ClockId, clock_gettime};
use tower::{BoxError, Service};

/// A write was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sent: this process does not hold its lease any more")]
pub struct Refused;

/// A moment of a clock that runs on while a process, or its machine, is stopped (`CLOCK_BOOTTIME`): since boot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(Duration);

impl Moment {
    pub(super) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let (seconds, nanoseconds) = (u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
        Self(Duration::new(seconds, nanoseconds))
    }
}

/// Until when a process may write; at first it may not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fence {
    /// Microseconds since boot.
    until: Arc<AtomicU64>,
}

impl Fence {
    /// Writes may be sent for so long from a moment on.
    pub(super) fn open(&self, from: Moment, lasts: Duration) {
        self.until.store(micros(from.0.saturating_add(lasts)), Ordering::Release);
    }

    /// No write may be sent any more.
    pub(super) fn close(&self) {
        self.until.store(0, Ordering::Release);
    }

    fn check(&self) -> Result<(), Refused> {
        if micros(Moment::now().0) < self.until.load(Ordering::Acquire) { Ok(()) } else { Err(Refused) }
    }

    /// A client whose writes are refused when the fence is closed, and name the lease.
    pub(super) fn around(&self, client: kube::Client, lease: &HeldLease) -> kube::Client {
        let namespace = client.default_namespace().to_owned();
        // A holder that no header can name goes without.
        let lease = HeaderValue::try_from(lease.to_string()).ok();
        kube::Client::new(Fenced { client, fence: self.clone(), lease }, namespace)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Fails for a write that must not be sent now.
fn check<B>(request: &Request<B>) -> Result<(), Refused> {
    request.extensions().get::<Fence>().map_or(Ok(()), Fence::check)
}

/// Marks writes, and refuses them at once when the fence is closed.
struct Fenced {
    client: kube::Client,
    fence: Fence,
    lease: Option<HeaderValue>,
}

impl Service<Request<Body>> for Fenced {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
            request.extensions_mut().insert(self.fence.clone());
            if let Some(lease) = &self.lease {
                request.headers_mut().insert(HELD_LEASE, lease.clone());
            }
        }
        let client = self.client.clone();
        async move {
            check(&request)?;
            Ok(client.send(request).await?)
        }
        .boxed()
    }
}

/// Lets requests through to the transport, but for writes of which [`check`] says no.
#[derive(Clone, Debug)]
pub(crate) struct Gate<S>(pub(crate) S);

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match check(&request) {
            Ok(()) => self.0.call(request).map(|answer| answer.map_err(Into::into)).boxed(),
            Err(refused) => async move { Err(refused.into()) }.boxed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::{DeleteParams, ObjectMeta, PostParams};

    use super::*;
    use crate::fake::FakeApi;

    const PATH: &str = "/api/v1/namespaces/default/configmaps/a";

    fn map() -> ConfigMap {
        ConfigMap { metadata: ObjectMeta { name: Some("a".into()), ..ObjectMeta::default() }, ..ConfigMap::default() }
    }

    fn lease() -> HeldLease {
        HeldLease { namespace: "kube-system".to_owned(), name: "c".to_owned(), holder: "a".to_owned() }
    }

    fn is_refused<T>(outcome: kube::Result<T>) -> bool {
        matches!(outcome, Err(kube::Error::Service(err)) if err.is::<Refused>())
    }

    #[tokio::test]
    async fn writes_pass_only_while_the_lease_lasts_and_reads_always() {
        let (fake, fence) = (FakeApi::new(), Fence::default());
        let maps: Api<ConfigMap> = Api::default_namespaced(fence.around(fake.client(), &lease()));
        assert!(is_refused(maps.create(&PostParams::default(), &map()).await), "it does not lead yet");
        assert!(maps.get_opt("a").await.unwrap().is_none());

        fence.open(Moment::now(), Duration::from_secs(600));
        maps.create(&PostParams::default(), &map()).await.unwrap();

        fence.open(Moment(Moment::now().0.saturating_sub(Duration::from_secs(10))), Duration::from_secs(10));
        assert!(is_refused(maps.delete("a", &DeleteParams::default()).await));
        assert!(fake.get(PATH).is_some());
        maps.get("a").await.unwrap();

        fence.open(Moment::now(), Duration::from_secs(600));
        fence.close();
        assert!(is_refused(maps.replace("a", &PostParams::default(), &map()).await));
    }

    #[tokio::test]
    async fn what_waited_on_its_way_is_refused_at_the_gate() {
        let fence = Fence::default();
        let mut gate = Gate(tower::service_fn(|_: Request<Body>| async { Ok::<_, BoxError>("sent") }));
        let write = || {
            let mut request = Request::post("/").body(Body::empty()).unwrap();
            request.extensions_mut().insert(fence.clone());
            request
        };
        fence.open(Moment::now(), Duration::from_secs(600));
        let held_up = write();
        assert_eq!(gate.call(write()).await.unwrap(), "sent");
        fence.close();
        assert!(gate.call(held_up).await.unwrap_err().is::<Refused>());
        assert_eq!(gate.call(Request::post("/").body(Body::empty()).unwrap()).await.unwrap(), "sent");
    }
}
