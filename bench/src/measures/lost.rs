//! Pages that were lost: of which kind each was, and what happened to the pods around it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// Losses of one kind that are no farther apart are told together.
const TOGETHER: Duration = Duration::from_millis(250);
/// What happened so long before a burst was asked for is told with it, and what happened so soon after: a page that is given
/// up after ten seconds was lost at their beginning.
const BEFORE: Duration = Duration::from_secs(6);
const AFTER: Duration = Duration::from_secs(1);
/// Bursts that are told one by one, and events that are told with each.
const BURSTS: usize = 12;
const EVENTS: usize = 24;

/// How far a request had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    /// Connected; the request is being written.
    Writing,
    /// Written; nothing of the answer is there.
    Waiting,
    /// A part of the answer is there.
    Reading,
}

/// What became of a page that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lost {
    Refused,
    NoRoute,
    /// A rule of this machine dropped it.
    Forbidden,
    /// This machine had no port left for the client.
    NoPort,
    /// Nobody answered the attempt to connect.
    ConnectTimeout,
    /// Connected, and then there was no (whole) answer.
    AnswerTimeout,
    ResetBeforeWritten,
    ResetWhileWaiting,
    ResetWhileReading,
    /// The connection ended in order, but without an answer, or before the answer's end.
    Short,
    Status(u16),
    Other(ErrorKind),
}

impl Lost {
    /// What an error comes to at this stage. Whoever gives up himself says [`ErrorKind::TimedOut`].
    pub(super) fn by(stage: Stage, kind: ErrorKind) -> Self {
        match (kind, stage) {
            (ErrorKind::ConnectionRefused, _) => Self::Refused,
            (ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown, _) => Self::NoRoute,
            (ErrorKind::PermissionDenied, _) => Self::Forbidden,
            (ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse, _) => Self::NoPort,
            (ErrorKind::TimedOut, Stage::Connecting) => Self::ConnectTimeout,
            (ErrorKind::TimedOut, _) => Self::AnswerTimeout,
            (ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe, stage) => match stage {
                Stage::Connecting | Stage::Writing => Self::ResetBeforeWritten,
                Stage::Waiting => Self::ResetWhileWaiting,
                Stage::Reading => Self::ResetWhileReading,
            },
            (other, _) => Self::Other(other),
        }
    }

    /// Judges an answer that has ended, by its first bytes and its length; `None` where it is the page.
    pub(super) fn of_answer(head: &[u8], length: u64, least: u64) -> Option<Self> {
        // `HTTP/1.1 200 OK`, whatever the minor version.
        let code = head.get(8..13).filter(|_| head.starts_with(b"HTTP/1."));
        let code = code.and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.trim().parse().ok());
        match code {
            None => Some(Self::Short),
            Some(200) => (length < least).then_some(Self::Short),
            Some(other) => Some(Self::Status(other)),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::NoRoute => f.write_str("no route"),
            Self::Forbidden => f.write_str("dropped by a rule here"),
            Self::NoPort => f.write_str("no local port left"),
            Self::ConnectTimeout => f.write_str("timeout while connecting"),
            Self::AnswerTimeout => f.write_str("timeout of the answer"),
            Self::ResetBeforeWritten => f.write_str("reset before the request was written"),
            Self::ResetWhileWaiting => f.write_str("reset while waiting"),
            Self::ResetWhileReading => f.write_str("reset within the answer"),
            Self::Short => f.write_str("short answer"),
            Self::Status(code) => write!(f, "status {code}"),
            Self::Other(kind) => write!(f, "{kind}"),
        }
    }
}

/// A page that was lost, and when it was asked for and given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    pub(super) lost: Lost,
    pub(super) sent: Instant,
    pub(super) ended: Instant,
}

/// How many there are of each kind.
pub(super) fn counts(losses: &[Loss]) -> BTreeMap<Lost, usize> {
    let mut counts = BTreeMap::new();
    for loss in losses {
        *counts.entry(loss.lost).or_default() += 1;
    }
    counts
}

/// Losses of one kind, one soon after another.
#[derive(Debug)]
struct Burst {
    lost: Lost,
    count: usize,
    /// When the first and the last of them were asked for.
    sent: Instant,
    sent_last: Instant,
    /// When the first and the last of them were given up.
    first: Instant,
    last: Instant,
}

fn bursts(losses: &[Loss]) -> Vec<Burst> {
    let mut sorted = losses.to_vec();
    sorted.sort_by_key(|loss| (loss.lost, loss.ended));
    let mut bursts: Vec<Burst> = Vec::new();
    for Loss { lost, sent, ended } in sorted {
        match bursts.last_mut().filter(|burst| burst.lost == lost && ended - burst.last <= TOGETHER) {
            Some(burst) => {
                burst.count += 1;
                (burst.sent, burst.sent_last) = (burst.sent.min(sent), burst.sent_last.max(sent));
                burst.last = ended;
            }
            None => bursts.push(Burst { lost, count: 1, sent, sent_last: sent, first: ended, last: ended }),
        }
    }
    bursts.sort_by_key(|burst| burst.first);
    bursts
}

/// Tells of the losses beside what happened: a line for each burst, and below it the events before and during it. Times
/// are seconds since `start`; those of events are told as what lay between them and the burst's first request.
pub(super) fn story(losses: &[Loss], events: &[(Instant, String)], start: Instant) -> Vec<String> {
    let bursts = bursts(losses);
    let seconds = |at: Instant| at.saturating_duration_since(start).as_secs_f64();
    let mut lines = Vec::new();
    for burst in bursts.iter().take(BURSTS) {
        let Burst { lost, count, sent, sent_last, first, last } = burst;
        lines.push(format!(
            "{count} x {lost}: asked for from {:.3} s on, lost at {:.3} to {:.3} s",
            seconds(*sent),
            seconds(*first),
            seconds(*last)
        ));
        let end = (*sent_last + AFTER).min(*last);
        let near: Vec<_> = events.iter().filter(|(at, _)| *at + BEFORE >= *sent && *at <= end).collect();
        for (at, what) in &near[near.len().saturating_sub(EVENTS)..] {
            let (sign, between) = if at > sent { ('+', *at - *sent) } else { ('-', *sent - *at) };
            lines.push(format!("    {sign}{:.3} s: {what}", between.as_secs_f64()));
        }
    }
    if bursts.len() > BURSTS {
        lines.push(format!("and {} bursts more", bursts.len() - BURSTS));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_how_far_the_request_had_come() {
        use Stage::{Connecting, Reading, Waiting, Writing};
        let cases = [
            (Connecting, ErrorKind::ConnectionRefused, Lost::Refused),
            (Connecting, ErrorKind::HostUnreachable, Lost::NoRoute),
            (Connecting, ErrorKind::NetworkUnreachable, Lost::NoRoute),
            (Waiting, ErrorKind::HostUnreachable, Lost::NoRoute),
            (Connecting, ErrorKind::PermissionDenied, Lost::Forbidden),
            (Connecting, ErrorKind::AddrNotAvailable, Lost::NoPort),
            (Connecting, ErrorKind::TimedOut, Lost::ConnectTimeout),
            (Writing, ErrorKind::TimedOut, Lost::AnswerTimeout),
            (Waiting, ErrorKind::TimedOut, Lost::AnswerTimeout),
            (Reading, ErrorKind::TimedOut, Lost::AnswerTimeout),
            (Connecting, ErrorKind::ConnectionReset, Lost::ResetBeforeWritten),
            (Writing, ErrorKind::BrokenPipe, Lost::ResetBeforeWritten),
            (Waiting, ErrorKind::ConnectionReset, Lost::ResetWhileWaiting),
            (Reading, ErrorKind::ConnectionReset, Lost::ResetWhileReading),
            (Reading, ErrorKind::OutOfMemory, Lost::Other(ErrorKind::OutOfMemory)),
        ];
        for (stage, kind, expected) in cases {
            assert_eq!(Lost::by(stage, kind), expected, "{stage:?} {kind:?}");
        }
    }

    #[test]
    fn an_answer_is_the_page_or_short_or_of_another_status() {
        let check = |head: &str, length, expected| {
            assert_eq!(Lost::of_answer(head.as_bytes(), length, 100), expected, "{head:?} {length}");
        };
        check("HTTP/1.1 200 OK\r\n", 100, None);
        check("HTTP/1.0 200 OK\r\n", 99, Some(Lost::Short));
        check("", 0, Some(Lost::Short));
        check("HTTP/1.1 20", 11, Some(Lost::Short));
        check("HTTP/1.1 503 Service", 500, Some(Lost::Status(503)));
        check("SSH-2.0- 200 ", 500, Some(Lost::Short));
    }

    fn loss(start: Instant, lost: Lost, sent: u64, ended: u64) -> Loss {
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        Loss { lost, sent: at(sent), ended: at(ended) }
    }

    #[test]
    fn losses_of_one_kind_that_come_together_are_told_with_what_happened_before_them() {
        let start = Instant::now();
        let losses = [
            loss(start, Lost::Refused, 9_100, 9_101),
            loss(start, Lost::Refused, 9_300, 9_301),
            loss(start, Lost::ConnectTimeout, 1_000, 11_000),
            loss(start, Lost::Refused, 20_000, 20_001),
        ];
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let events = [
            (at(500), "pod a is deleted".to_owned()),
            (at(9_000), "pod a's containers have ended".to_owned()),
            (at(9_301), "rules are without a".to_owned()),
            (at(12_000), "pod a is gone".to_owned()),
        ];
        assert_eq!(
            story(&losses, &events, start),
            [
                "2 x connection refused: asked for from 9.100 s on, lost at 9.101 to 9.301 s",
                "    -0.100 s: pod a's containers have ended",
                "    +0.201 s: rules are without a",
                "1 x timeout while connecting: asked for from 1.000 s on, lost at 11.000 to 11.000 s",
                "    -0.500 s: pod a is deleted",
                "1 x connection refused: asked for from 20.000 s on, lost at 20.001 to 20.001 s",
            ]
        );
        assert_eq!(counts(&losses), BTreeMap::from([(Lost::Refused, 3), (Lost::ConnectTimeout, 1)]));
    }

    #[test]
    fn many_bursts_and_many_events_are_cut_short() {
        let start = Instant::now();
        let losses: Vec<Loss> = (0..20).map(|n| loss(start, Lost::Short, 60_000 * n, 60_000 * n + 1)).collect();
        let events: Vec<_> = (0..100).map(|n| (start, format!("event {n}"))).collect();
        let lines = story(&losses, &events, start);
        assert_eq!(lines.len(), BURSTS + EVENTS + 1);
        assert_eq!(
            (lines[1].as_str(), lines.last().unwrap().as_str()),
            ("    -0.000 s: event 76", "and 8 bursts more")
        );
    }
}
