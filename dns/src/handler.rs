//! One DNS request: our zone, or a server upstream.

use hickory_proto::op::{Metadata, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use prometheus_client::metrics::counter::Counter;
use tracing::debug;

use crate::zone::{Answer, Cluster, Zone};

/// Answers requests.
pub(crate) struct Handler<C> {
    pub(crate) zone: Zone<C>,
    /// `None` when there is nobody to ask: names outside the zone are refused.
    pub(crate) upstream: Option<TokioResolver>,
    pub(crate) requests: Counter,
    pub(crate) failures: Counter,
}

/// A response's parts.
#[derive(Default)]
struct Reply {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    soa: Vec<Record>,
    additional: Vec<Record>,
}

impl<C: Cluster> Handler<C> {
    async fn reply(&self, name: &Name, kind: RecordType) -> Reply {
        match self.zone.answer(name, kind) {
            Answer::Records { records, additional } => {
                Reply { authoritative: true, answers: records, additional, ..Reply::default() }
            }
            Answer::NoData => self.negative(ResponseCode::NoError),
            Answer::NxDomain => self.negative(ResponseCode::NXDomain),
            Answer::NotOurs => self.forward(name, kind).await,
            Answer::Alias { record, .. } if kind == RecordType::CNAME => {
                Reply { authoritative: true, answers: vec![*record], ..Reply::default() }
            }
            Answer::Alias { record, target } => {
                // One step within the zone, then upstream: a chain of ExternalNames ends here rather than in a loop.
                let rest = match self.zone.answer(&target, kind) {
                    Answer::Records { records, .. } => Reply { answers: records, ..Reply::default() },
                    Answer::NotOurs => self.forward(&target, kind).await,
                    _ => Reply::default(),
                };
                let answers = std::iter::once(*record).chain(rest.answers).collect();
                Reply { authoritative: true, answers, ..Reply::default() }
            }
        }
    }

    fn negative(&self, code: ResponseCode) -> Reply {
        Reply { code, authoritative: true, soa: vec![self.zone.soa()], ..Reply::default() }
    }

    async fn forward(&self, name: &Name, kind: RecordType) -> Reply {
        let Some(upstream) = &self.upstream else { return Reply { code: ResponseCode::Refused, ..Reply::default() } };
        let mut name = name.clone();
        name.set_fqdn(true);
        match upstream.lookup(name.clone(), kind).await {
            Ok(found) => Reply { answers: found.answers().to_vec(), ..Reply::default() },
            Err(err) if err.is_nx_domain() => Reply { code: ResponseCode::NXDomain, ..Reply::default() },
            Err(err) if err.is_no_records_found() => Reply::default(),
            Err(err) => {
                debug!(%name, error = &err as &dyn std::error::Error, "upstream failed");
                self.failures.inc();
                Reply { code: ResponseCode::ServFail, ..Reply::default() }
            }
        }
    }
}

#[async_trait::async_trait]
impl<C: Cluster + Unpin> RequestHandler for Handler<C> {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut respond: R) -> ResponseInfo {
        self.requests.inc();
        let reply = match request.request_info() {
            Ok(info) => self.reply(info.query.name(), info.query.query_type()).await,
            Err(_) => Reply { code: ResponseCode::FormErr, ..Reply::default() },
        };
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        metadata.recursion_available = self.upstream.is_some();
        let response = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            &reply.answers,
            [],
            &reply.soa,
            &reply.additional,
        );
        match respond.send_response(response).await {
            Ok(info) => info,
            Err(err) => {
                debug!(error = &err as &dyn std::error::Error, "response not sent");
                ResponseInfo::from(hickory_proto::op::Header {
                    metadata,
                    counts: hickory_proto::op::HeaderCounts::default(),
                })
            }
        }
    }
}
