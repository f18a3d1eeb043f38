//! Between etcd's types and ours.

use std::error::Error as StdError;
use std::sync::Arc;

use bytes::Bytes;
use etcd_client::{Event, EventType, KeyValue, ResponseHeader};

use crate::{Entry, Error, MAX_ENTRY_BYTES, Revision, WatchEvent};

/// gRPC's numbers for statuses that say the server, rather than the request, is at fault.
const CANCELLED: i32 = 1;
const UNKNOWN: i32 = 2;
const DEADLINE_EXCEEDED: i32 = 4;
const UNAVAILABLE: i32 = 14;

/// etcd's revisions are signed.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// The revision at which a response was made.
pub(super) fn revision_of(header: Option<&ResponseHeader>) -> Revision {
    header.map_or(0, |header| unsigned(header.revision()))
}

pub(super) fn unsigned(revision: i64) -> Revision {
    u64::try_from(revision).unwrap_or(0)
}

/// Keys that are not UTF-8 are none of ours; they are shown as well as can be.
fn key(key_value: &KeyValue) -> Arc<str> {
    String::from_utf8_lossy(key_value.key()).into()
}

pub(super) fn entry(key_value: &KeyValue) -> Entry {
    Entry {
        key: key(key_value),
        value: Bytes::copy_from_slice(key_value.value()),
        create_revision: unsigned(key_value.create_revision()),
        mod_revision: unsigned(key_value.mod_revision()),
    }
}

pub(super) fn watch_event(event: &Event) -> Option<WatchEvent> {
    let key_value = event.kv()?;
    let previous = event.prev_kv().map(entry);
    Some(match event.event_type() {
        EventType::Put => WatchEvent::Put { entry: entry(key_value), previous },
        EventType::Delete => {
            WatchEvent::Delete { key: key(key_value), revision: unsigned(key_value.mod_revision()), previous }
        }
    })
}

/// The first key after all those with a prefix, as etcd wants it: a single zero byte if there is none.
pub(super) fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// Maps an error of the client. What etcd says of a revision lacks which ones there are; the caller fills that in.
pub(super) fn store_error(operation: &'static str, err: etcd_client::Error) -> Error {
    let etcd_client::Error::GRpcStatus(status) = &err else {
        return match err {
            etcd_client::Error::TransportError(_) | etcd_client::Error::IoError(_) => {
                Error::Unavailable { reason: format!("{operation}: {}", words(&err)) }
            }
            err => Error::Backend { operation, source: Box::new(err) },
        };
    };
    let message = status.message();
    let code = i32::from(status.code());
    if message.contains("required revision has been compacted") {
        Error::Compacted { asked: 0, oldest: 0 }
    } else if message.contains("required revision is a future revision") {
        Error::Future { asked: 0, newest: 0 }
    } else if message.contains("request is too large") || message.contains("received message larger than max") {
        Error::TooLarge { key: String::new(), size: 0, limit: MAX_ENTRY_BYTES }
    } else if is_overload(status.message())
        || matches!(code, CANCELLED | DEADLINE_EXCEEDED | UNAVAILABLE)
        || (code == UNKNOWN && status.source().is_some())
    {
        Error::Unavailable { reason: format!("{operation}: {}", words(&err)) }
    } else {
        Error::Backend { operation, source: Box::new(Said(words(&err))) }
    }
}

/// Whether etcd refused a request because it has too many already; it did nothing then.
pub(super) fn is_overload(message: &str) -> bool {
    message.contains("etcdserver: too many requests")
}

/// What etcd, or the way to it, has against a request.
/// With its causes in it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);

/// What to do about it, by words in it.
const HINTS: [(&str, &str); 9] = [
    ("Connection refused", "does etcd run there?"),
    ("failed to lookup address", "is its name right?"),
    ("tls handshake eof", "it does not speak TLS: give its address with http://"),
    ("stream closed because of a broken pipe", "if it speaks TLS only, give its address with https://"),
    ("UnknownIssuer", "give the authority of its certificate by --etcd-cafile"),
    ("fatal alert: BadCertificate", WANTS_CERTIFICATE),
    ("fatal alert: CertificateRequired", WANTS_CERTIFICATE),
    ("etcdserver: user name is empty", WANTS_USER),
    ("etcdserver: permission denied", WANTS_USER),
];
const WANTS_CERTIFICATE: &str =
    "it wants a client certificate of an authority that it trusts: give --etcd-certfile and --etcd-keyfile";
const WANTS_USER: &str =
    "it has users, who are known by client certificates: give --etcd-certfile and --etcd-keyfile of one who may do all";

/// An error in words: those of the client name causes as Rust's debugger does, or leave them out.
fn words(err: &etcd_client::Error) -> String {
    let text = match err {
        etcd_client::Error::GRpcStatus(status) => chain(status.message(), status.source()),
        other => chain(&other.to_string(), other.source()),
    };
    advised(text)
}

fn advised(text: String) -> String {
    match HINTS.iter().find(|(word, _)| text.contains(word)) {
        Some((_, advice)) => format!("{text} ({advice})"),
        None => text,
    }
}

/// A text and the causes behind it, each said once.
fn chain(text: &str, mut cause: Option<&(dyn StdError + 'static)>) -> String {
    let mut text = text.to_owned();
    while let Some(err) = cause {
        let next = err.to_string();
        if text == "transport error" {
            text = next;
        } else if !text.contains(&next) && next != "transport error" {
            text = format!("{text}: {next}");
        }
        cause = err.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn causes_are_said_once_and_with_what_to_do() {
        let refused = io::Error::other("Connection refused (os error 111)");
        let cause = io::Error::other(refused);
        assert_eq!(
            advised(chain("tcp connect error", Some(&cause))),
            "tcp connect error: Connection refused (os error 111) (does etcd run there?)"
        );
        let alert = io::Error::other("received fatal alert: BadCertificate");
        let text = advised(chain("transport error", Some(&alert)));
        assert!(text.starts_with("received fatal alert") && text.contains("--etcd-certfile"), "{text}");
        let users = advised(chain("etcdserver: user name is empty", None));
        assert!(users.contains("who are known by client certificates"), "{users}");
        assert_eq!(advised(chain("etcdserver: no leader", None)), "etcdserver: no leader");
    }

    #[test]
    fn the_end_of_a_prefix_is_the_key_after_it() {
        assert_eq!(prefix_end("/registry/"), b"/registry0");
        assert_eq!(prefix_end("a\u{7f}"), [b'a', 0x80]);
        assert_eq!(prefix_end(""), [0]);
    }
}
