//! Asking a gRPC server whether it is well, by the service `grpc.health.v1.Health` (upstream: pkg/probe/grpc).
use std::net::IpAddr;
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::GRPCAction;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::http_action::{Error, host_port};
use crate::backoff::go_duration;

/// The longest answer, in bytes.
const MAX_ANSWER: usize = 1 << 10;
/// How soon a server that is not there is looked for again.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Clone, PartialEq, prost::Message)]
struct Question {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Asks once, and looks for the server as long as there is time; an error holds the words for the `Unhealthy` event.
pub(crate) async fn health(action: &GRPCAction, ip: IpAddr, limit: Duration) -> Result<(), String> {
    let port = u16::try_from(action.port).map_err(|_| Error::Port(action.port.to_string()).to_string())?;
    let address = host_port(&ip.to_string(), port);
    let (until, limit) = (Instant::now() + limit, go_duration(limit));
    let Ok(channel) = timeout_at(until, connected(&address)).await else {
        return Err(format!(
            "timeout: failed to connect service {address:?} within {limit}: context deadline exceeded"
        ));
    };
    let question = Question { service: action.service.clone().unwrap_or_default() };
    match timeout_at(until, ask(channel?, question)).await {
        Ok(Ok(answer)) => serves(answer.status),
        Ok(Err(status)) if status.code() == Code::Unimplemented => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        )),
        Ok(Err(status)) => Err(format!(
            "error: health rpc probe failed: rpc error: code = {:?} desc = {}",
            status.code(),
            status.message()
        )),
        Err(_) => Err(format!("timeout: health rpc did not complete within {limit}")),
    }
}

async fn connected(address: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|err| err.to_string())?;
    let endpoint = endpoint.user_agent("kube-probe/1.36").map_err(|err| err.to_string())?;
    loop {
        let address = address.to_owned();
        let connect = service_fn(move |_uri| {
            let address = address.clone();
            async move { TcpStream::connect(address).await.map(TokioIo::new) }
        });
        if let Ok(channel) = endpoint.connect_with_connector(connect).await {
            return Ok(channel);
        }
        sleep(AGAIN).await;
    }
}

async fn ask(channel: Channel, question: Question) -> Result<Answer, Status> {
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_ANSWER);
    grpc.ready().await.map_err(|err| Status::unavailable(crate::failure::chain(&err)))?;
    let method = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let answer = grpc.unary(Request::new(question), method, ProstCodec::<Question, Answer>::default()).await;
    answer.map(tonic::Response::into_inner)
}

/// Judges a `HealthCheckResponse.ServingStatus`.
fn serves(status: i32) -> Result<(), String> {
    let name = match status {
        0 => "UNKNOWN".to_owned(),
        1 => return Ok(()),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => other.to_string(),
    };
    Err(format!("service unhealthy (responded with {name:?})"))
}
