//! One DNS request: our zone, or a server upstream.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use hickory_resolver::TokioResolver;
use prometheus_client::metrics::counter::Counter;
use tracing::debug;

use crate::message::{self, Incoming, Reply, Transport};
use crate::zone::{Answer, Cluster, Zone};

/// Answers requests.
pub(crate) struct Handler<C> {
    pub(crate) zone: Zone<C>,
    /// `None` when there is nobody to ask: names outside the zone are refused.
    pub(crate) upstream: Option<TokioResolver>,
    pub(crate) requests: Counter,
    pub(crate) failures: Counter,
}

impl<C: Cluster> Handler<C> {
    /// The answer to a message, if it is to have one.
    pub(crate) async fn answer(&self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let question = match message::read(bytes) {
            Incoming::Nothing => return None,
            Incoming::Refused(answer) => {
                self.requests.inc();
                return Some(answer);
            }
            Incoming::Question(question) => question,
        };
        self.requests.inc();
        let reply = self.reply(question.name(), question.kind()).await;
        let (recursion, limit) = (self.upstream.is_some(), question.limit(transport));
        let failed = Reply { code: ResponseCode::ServFail, ..Reply::default() };
        question.encode(&reply, recursion, limit).or_else(|| question.encode(&failed, recursion, limit))
    }

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

#[cfg(test)]
mod tests;
