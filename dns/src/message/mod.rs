//! DNS messages: which are answered, with what code, and how much of an answer fits (RFC 1035, 2181, 6891, 8906).
//!
//! ```text
//! no whole header, or a response       nothing: an answer would only be in somebody's way
//! not a standard query                 NOTIMP
//! not one question, odd counts, rest   FORMERR      the counts are looked at before anything is read
//! EDNS of a later version              BADVERS
//! zone transfers, classes beside IN    REFUSED
//! ```

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};

/// Bytes of a message's header.
const HEADER: usize = 12;
/// The largest answer over UDP to who says nothing of its size.
const PLAIN: usize = 512;
/// The largest answer over UDP: what passes every link whole (dnsflagday.net/2020). It bounds amplification, too.
const LARGEST: usize = 1232;
/// Records of each section that a request may have, as upstream's server: an SOA for IXFR, EDNS and a signature.
const MOST: [u16; 3] = [1, 1, 2];

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What is to be done with a message.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// No answer.
    Nothing,
    /// Answered without looking for anything.
    Refused(Vec<u8>),
    Question(Box<Question>),
}

/// The content of an answer.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) code: ResponseCode,
    pub(crate) authoritative: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) soa: Vec<Record>,
    pub(crate) additional: Vec<Record>,
}

/// A question that can be answered.
#[derive(Debug)]
pub(crate) struct Question {
    id: u16,
    recursion_desired: bool,
    checking_disabled: bool,
    query: Query,
    edns: Option<Edns>,
}

/// Reads a message as it came.
pub(crate) fn read(bytes: &[u8]) -> Incoming {
    let Some(header) = bytes.get(..HEADER) else { return Incoming::Nothing };
    let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if header[2] & 0x80 != 0 {
        return Incoming::Nothing;
    }
    if header[2] & 0x78 != 0 {
        return refused(header, ResponseCode::NotImp);
    }
    let odd = MOST.iter().zip([6, 8, 10]).any(|(most, at)| number(at) > *most);
    if number(4) != 1 || odd {
        return refused(header, ResponseCode::FormErr);
    }
    let Ok(mut message) = Message::from_vec(bytes) else { return refused(header, ResponseCode::FormErr) };
    let Some(query) = message.queries.pop() else { return refused(header, ResponseCode::FormErr) };
    let question = Question {
        id: message.metadata.id,
        recursion_desired: message.metadata.recursion_desired,
        checking_disabled: message.metadata.checking_disabled,
        edns: message.edns.as_ref().map(own_edns),
        query,
    };
    let version = message.edns.as_ref().map_or(0, Edns::version);
    let code = match question.query.query_type() {
        _ if version > 0 => ResponseCode::BADVERS,
        _ if question.query.query_class() != DNSClass::IN => ResponseCode::Refused,
        RecordType::AXFR | RecordType::IXFR => ResponseCode::Refused,
        _ => return Incoming::Question(Box::new(question)),
    };
    match question.encode(&Reply { code, ..Reply::default() }, false, PLAIN) {
        Some(answer) => Incoming::Refused(answer),
        None => refused(header, ResponseCode::ServFail),
    }
}

/// A header with a code, for requests of which nothing else is sure.
fn refused(header: &[u8], code: ResponseCode) -> Incoming {
    let mut answer = vec![0; HEADER];
    answer[..2].copy_from_slice(&header[..2]);
    // A response, with the request's operation and wish for recursion.
    answer[2] = 0x80 | header[2] & 0x79;
    answer[3] = code.low();
    Incoming::Refused(answer)
}

/// What we say of ourselves, and the client's size, to a client that speaks EDNS.
fn own_edns(theirs: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_version(0).set_max_payload(theirs.max_payload()).set_dnssec_ok(theirs.flags().dnssec_ok);
    edns
}

impl Question {
    pub(crate) fn name(&self) -> &Name {
        self.query.name()
    }

    pub(crate) fn kind(&self) -> RecordType {
        self.query.query_type()
    }

    /// The most bytes that an answer may have.
    pub(crate) fn limit(&self, transport: Transport) -> usize {
        match (transport, &self.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => PLAIN,
            (Transport::Udp, Some(edns)) => usize::from(edns.max_payload()).clamp(PLAIN, LARGEST),
        }
    }

    /// The answer in at most `limit` bytes: first what was not asked for is left out, then the last answers, which the
    /// truncation bit tells. `None` when it cannot be written at all.
    pub(crate) fn encode(&self, reply: &Reply, recursion: bool, limit: usize) -> Option<Vec<u8>> {
        let whole = self.message(reply, recursion, reply.answers.len(), true).to_vec();
        if let Ok(whole) = whole
            && whole.len() <= limit
        {
            return Some(whole);
        }
        let fits = |answers: usize| {
            let bytes = self.message(reply, recursion, answers, false).to_vec().ok()?;
            (bytes.len() <= limit).then_some(bytes)
        };
        let (mut best, mut low, mut high) = (None, 0, reply.answers.len() + 1);
        while low < high {
            let middle = usize::midpoint(low, high);
            match fits(middle) {
                Some(bytes) => (best, low) = (Some(bytes), middle + 1),
                None => high = middle,
            }
        }
        best
    }

    fn message(&self, reply: &Reply, recursion: bool, answers: usize, whole: bool) -> Message {
        let mut message = Message::new(self.id, MessageType::Response, OpCode::Query);
        message.metadata.response_code = reply.code;
        message.metadata.authoritative = reply.authoritative;
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = recursion;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.truncation = answers < reply.answers.len();
        message.queries.push(self.query.clone());
        message.answers = reply.answers[..answers].to_vec();
        if whole || reply.answers.is_empty() {
            message.authorities.clone_from(&reply.soa);
        }
        if whole {
            message.additionals.clone_from(&reply.additional);
        }
        if let Some(edns) = &self.edns {
            let mut own = edns.clone();
            own.set_max_payload(LARGEST as u16);
            message.edns = Some(own);
        }
        message
    }
}

#[cfg(test)]
mod tests;
