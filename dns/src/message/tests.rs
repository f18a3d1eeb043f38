use std::net::Ipv4Addr;

use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::A;

use super::*;

/// A request with these flags, counts and rest.
fn packet(flags: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xab, 0xcd];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(counts.into_iter().flat_map(u16::to_be_bytes));
    bytes.extend(rest);
    bytes
}

fn question(kind: u16, class: u16) -> Vec<u8> {
    let mut bytes = b"\x03web\x01d\x03svc\x07cluster\x05local\0".to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend(class.to_be_bytes());
    bytes
}

fn opt(size: u16, version: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, 41];
    bytes.extend(size.to_be_bytes());
    bytes.extend([0, version, 0, 0, 0, 0]);
    bytes
}

fn answered(bytes: &[u8]) -> Option<Message> {
    match read(bytes) {
        Incoming::Refused(answer) => Some(Message::from_vec(&answer).unwrap()),
        _ => None,
    }
}

fn asked(bytes: &[u8]) -> Question {
    match read(bytes) {
        Incoming::Question(question) => *question,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_plain_question_gets_its_code() {
    let plain = question(1, 1);
    let twice = [question(1, 1), question(1, 1)].concat();
    let with = |opt: Vec<u8>| [question(1, 1), opt].concat();
    for (what, bytes, code) in [
        ("zone transfer", packet(0, [1, 0, 0, 0], &question(252, 1)), ResponseCode::Refused),
        ("incremental transfer", packet(0, [1, 0, 0, 0], &question(251, 1)), ResponseCode::Refused),
        ("class chaos", packet(0, [1, 0, 0, 0], &question(16, 3)), ResponseCode::Refused),
        ("class any", packet(0, [1, 0, 0, 0], &question(1, 255)), ResponseCode::Refused),
        ("inverse query", packet(1 << 11, [1, 0, 0, 0], &plain), ResponseCode::NotImp),
        ("status", packet(2 << 11, [1, 0, 0, 0], &plain), ResponseCode::NotImp),
        ("notify", packet(4 << 11, [1, 0, 0, 0], &plain), ResponseCode::NotImp),
        ("update", packet(5 << 11, [1, 0, 0, 0], &plain), ResponseCode::NotImp),
        ("operation 15", packet(15 << 11, [1, 0, 0, 0], &plain), ResponseCode::NotImp),
        ("no question", packet(0, [0, 0, 0, 0], &[]), ResponseCode::FormErr),
        ("two questions", packet(0, [2, 0, 0, 0], &twice), ResponseCode::FormErr),
        ("65,535 questions", packet(0, [u16::MAX, 0, 0, 0], &plain), ResponseCode::FormErr),
        ("65,535 answers", packet(0, [1, u16::MAX, 0, 0], &plain), ResponseCode::FormErr),
        ("65,535 additional", packet(0, [1, 0, 0, u16::MAX], &plain), ResponseCode::FormErr),
        ("half a question", packet(0, [1, 0, 0, 0], &plain[..9]), ResponseCode::FormErr),
        ("two EDNS", packet(0, [1, 0, 0, 2], &[with(opt(512, 0)), opt(512, 0)].concat()), ResponseCode::FormErr),
        ("EDNS of version 1", packet(0, [1, 0, 0, 1], &with(opt(1232, 1))), ResponseCode::BADVERS),
    ] {
        let answer = answered(&bytes).unwrap_or_else(|| panic!("{what} has no answer"));
        let full = answer.edns.as_ref().map_or(0, |edns| u16::from(edns.rcode_high()) << 4);
        let found = full | u16::from(answer.metadata.response_code.low());
        assert_eq!(found, u16::from(code), "{what}");
        assert_eq!((answer.metadata.id, answer.metadata.message_type), (0xabcd, MessageType::Response), "{what}");
    }
}

#[test]
fn responses_and_scraps_are_dropped() {
    let response = packet(0x8000, [1, 0, 0, 0], &question(1, 1));
    assert!(matches!(read(&response), Incoming::Nothing));
    for length in 0..HEADER {
        assert!(matches!(read(&response[..length]), Incoming::Nothing));
    }
}

#[test]
fn the_size_of_an_answer_is_what_the_client_takes_within_bounds() {
    let plain = asked(&packet(0x0100, [1, 0, 0, 0], &question(1, 1)));
    assert_eq!((plain.limit(Transport::Udp), plain.limit(Transport::Tcp)), (512, 65_535));
    for (said, limit) in [(0, 512), (511, 512), (600, 600), (1232, 1232), (4096, 1232), (65_535, 1232)] {
        let rest = [question(1, 1), opt(said, 0)].concat();
        assert_eq!(asked(&packet(0, [1, 0, 0, 1], &rest)).limit(Transport::Udp), limit, "{said}");
    }
}

#[test]
fn answers_that_do_not_fit_are_cut_and_say_so() {
    let rest = [question(1, 1), opt(800, 0)].concat();
    let asked = asked(&packet(0x0100, [1, 0, 0, 1], &rest));
    let record = |number: u32| {
        let address = A(Ipv4Addr::from_bits(number));
        Record::from_rdata(asked.name().clone(), 5, RData::A(address))
    };
    for (answers, additional, cut) in [(3, 0, false), (3, 200, false), (200, 0, true), (200, 5, true), (0, 200, false)]
    {
        let reply = Reply {
            answers: (0..answers).map(record).collect(),
            additional: (0..additional).map(record).collect(),
            ..Reply::default()
        };
        let bytes = asked.encode(&reply, true, asked.limit(Transport::Udp)).unwrap();
        let message = Message::from_vec(&bytes).unwrap();
        assert!(bytes.len() <= 800, "{} bytes", bytes.len());
        assert_eq!(message.metadata.truncation, cut, "{answers} {additional}");
        assert!(message.edns.is_some() && message.metadata.recursion_desired);
        if cut {
            assert!(message.answers.len() > 20, "as many as fit: {}", message.answers.len());
        } else {
            assert_eq!(message.answers.len(), answers as usize);
        }
        let over_tcp = asked.encode(&reply, true, asked.limit(Transport::Tcp)).unwrap();
        assert_eq!(Message::from_vec(&over_tcp).unwrap().answers.len(), answers as usize);
    }
}
