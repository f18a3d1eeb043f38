use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType};

use super::*;
use crate::zone::tests::Fixed;

fn handler() -> Handler<Fixed> {
    let zone = Zone::new(Name::from_ascii("cluster.local.").unwrap(), Fixed::new());
    Handler { zone, upstream: None, requests: Counter::default(), failures: Counter::default() }
}

/// A generator of bytes whose seed replays a run (xorshift).
struct Bytes(u64);

impl Bytes {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

/// Questions of every kind that the zone tells apart, with and without EDNS.
fn seeds() -> Vec<Vec<u8>> {
    let names = [
        "web.d.svc.cluster.local.",
        "_http._tcp.web.d.svc.cluster.local.",
        "db.d.svc.cluster.local.",
        "db-0.db.d.svc.cluster.local.",
        "far.d.svc.cluster.local.",
        "10-244-0-5.d.pod.cluster.local.",
        "9.0.96.10.in-addr.arpa.",
        "dns-version.cluster.local.",
        "example.org.",
    ];
    let kinds = [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::PTR, RecordType::ANY, RecordType::AXFR];
    let mut seeds = Vec::new();
    for name in names {
        for kind in kinds {
            let mut message = Message::query();
            message.add_query(hickory_proto::op::Query::query(Name::from_ascii(name).unwrap(), kind));
            seeds.push(message.to_vec().unwrap());
            message.set_edns(hickory_proto::op::Edns::new());
            seeds.push(message.to_vec().unwrap());
        }
    }
    seeds
}

fn mutated(random: &mut Bytes, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut packet = seeds[random.below(seeds.len())].clone();
    match random.below(4) {
        0 => packet = (0..random.below(600)).map(|_| random.next().to_le_bytes()[0]).collect(),
        1 => packet.truncate(random.below(packet.len() + 1)),
        2 => packet.extend((0..random.below(64)).map(|_| random.next().to_le_bytes()[0])),
        _ => {}
    }
    for _ in 0..random.below(6) {
        if !packet.is_empty() {
            let at = random.below(packet.len());
            packet[at] = random.next().to_le_bytes()[0];
        }
    }
    packet
}

#[tokio::test]
async fn whatever_comes_is_answered_properly_or_dropped() {
    const TRIES: u64 = 60_000;
    let (handler, seeds, mut random) = (handler(), seeds(), Bytes(0x9e37_79b9_7f4a_7c15));
    let (mut answered, mut wrong, mut slowest) = (0_u64, 0_u64, Duration::ZERO);
    for _ in 0..TRIES {
        let packet = mutated(&mut random, &seeds);
        let began = Instant::now();
        let answer = handler.answer(&packet, Transport::Udp).await;
        slowest = slowest.max(began.elapsed());
        let Some(answer) = answer else { continue };
        answered += 1;
        let read = Message::from_vec(&answer);
        let fits = answer.len() <= 1232 && answer[..2] == packet[..2];
        wrong += u64::from(!fits || !read.is_ok_and(|read| read.metadata.message_type == MessageType::Response));
    }
    assert!(answered > TRIES / 10, "only {answered} were answered");
    faults::Attack::new("dns: mutated packets")
        .tried(TRIES, wrong)
        .figure("answered", answered)
        .figure("slowest, ms", slowest.as_millis())
        .record();
}

#[tokio::test]
async fn a_question_of_the_zone_is_answered_and_one_of_elsewhere_refused_without_upstream() {
    let handler = handler();
    let ask = async |name: &str| {
        let mut message = Message::query();
        message.add_query(hickory_proto::op::Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        let answer = handler.answer(&message.to_vec().unwrap(), Transport::Udp).await.unwrap();
        Message::from_vec(&answer).unwrap()
    };
    let ours = ask("web.d.svc.cluster.local.").await;
    assert_eq!((ours.answers.len(), ours.metadata.authoritative), (1, true));
    assert_eq!(ask("example.org.").await.metadata.response_code, ResponseCode::Refused);
    assert_eq!(ask("none.d.svc.cluster.local.").await.metadata.response_code, ResponseCode::NXDomain);
}
