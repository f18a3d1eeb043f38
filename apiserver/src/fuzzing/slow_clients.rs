//! Clients that send and read by a schedule that the fuzzer chose: both sides of a request hold on to nothing for longer
//! than they say, and cut nobody who keeps their time.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use api::strategy::User;
use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, Method};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::flow_control::sending::{self, Sending};
use crate::flow_control::{FlowControl, Limits};
use crate::http::Cut;
use crate::request::info::RequestInfo;
use crate::request::intake::{self, Intake, Payload, drop_unread};
use crate::request::query::Query;
use crate::response::Answer;

/// Pauses, in milliseconds; none is as long as a limit, where either outcome is right.
const PAUSES: [u64; 16] =
    [0, 1, 20, 300, 900, 1_100, 4_000, 9_900, 10_100, 25_000, 59_000, 61_000, 64_000, 66_000, 600_000, 3_600_000];
const SIZES: [usize; 16] = [
    0,
    1,
    100,
    1_023,
    1_024,
    10_000,
    20_000,
    32 << 10,
    (64 << 10) - 1,
    64 << 10,
    (64 << 10) + 1,
    256 << 10,
    1 << 20,
    2 << 20,
    intake::BODY,
    intake::BODY + 1,
];
/// What bodies consist of; a piece is its beginning.
static BYTES: LazyLock<Bytes> = LazyLock::new(|| vec![b'x'; intake::BODY + 1].into());
/// Steps of one input that count.
const STEPS: usize = 200;
const SENDERS: usize = 3;
/// Pieces of an answer, each of at most 64 KiB.
const PIECES: usize = 40;
/// Limits are looked at when a piece comes, and in whole seconds.
const ROUNDING: Duration = Duration::from_secs(2);

/// How a body ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Broken,
    Never,
}

#[derive(Clone, Copy)]
struct Step {
    pause: Duration,
    size: usize,
}

/// Plays the schedule of an input, in a runtime whose clock is paused:
///
/// ```text
/// | how bodies end 2 bits, how much of the allowance is taken 2, what the reader does at last 2 | step 2 bytes | ...
/// step: | who 4 bits, pause 4 | size 8 |
/// ```
///
/// # Panics
/// When a client is held on to for too long, is cut in its time, or something that it took is not given back.
pub async fn slow_clients(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let mut schedules: [Vec<Step>; SENDERS + 1] = Default::default();
    for step in rest.chunks_exact(2).take(STEPS) {
        let pause = Duration::from_millis(PAUSES[usize::from(step[0] % 16)]);
        schedules[usize::from(step[0] / 16) % (SENDERS + 1)]
            .push(Step { pause, size: SIZES[usize::from(step[1] % 16)] });
    }
    let [reader, senders @ ..] = schedules;
    let end = [End::Whole, End::Whole, End::Broken, End::Never][usize::from(first % 4)];
    send(&senders, end, first / 4 % 4).await;
    for schedule in &senders {
        go_on_sending(schedule, end).await;
    }
    read(&reader, first / 16 % 4).await;
}

/// A body that comes by a schedule; `sent` counts what came of it.
fn body(schedule: &[Step], end: End, sent: &Arc<AtomicUsize>) -> Body {
    let sent = sent.clone();
    let pieces = stream::iter(schedule.to_vec()).then(move |Step { pause, size }| {
        let sent = sent.clone();
        async move {
            sleep(pause).await;
            sent.fetch_add(size, Ordering::Relaxed);
            io::Result::Ok(BYTES.slice(..size))
        }
    });
    match end {
        End::Whole => Body::from_stream(pieces),
        End::Broken => Body::from_stream(pieces.chain(stream::iter([Err(io::Error::other("broken off"))]))),
        End::Never => Body::from_stream(pieces.chain(stream::pending())),
    }
}

/// Takes what one user may have of the allowance, or what all may.
async fn crowd(intake: &Intake, how_large: u8) -> Vec<Payload> {
    let mut held = Vec::new();
    let users = match how_large {
        0 | 1 => 0,
        2 => 1,
        _ => intake::ALL.div_ceil(intake::ONE_USER) + 1,
    };
    for user in 0..users {
        let whole = || Body::from(BYTES.slice(..intake::BODY));
        while let Ok(payload) = intake.read(&mut whole(), &format!("user-{user}")).await {
            held.push(payload);
        }
    }
    held
}

/// Several send at a time, all but the first of them as the same user.
async fn send(senders: &[Vec<Step>], end: End, how_large: u8) {
    let intake = Intake::default();
    let crowd = crowd(&intake, how_large).await;
    let before = taken(&intake);
    let reads = senders.iter().enumerate().map(|(at, schedule)| {
        let (intake, user) = (&intake, format!("user-{}", at.min(1)));
        async move {
            let began = Instant::now();
            let outcome = intake.read(&mut body(schedule, end, &Arc::default()), &user).await;
            let outcome = outcome.map_err(|err| err.code());
            check_intake(schedule, end, &outcome, began.elapsed(), !crowd_is_there(how_large));
            outcome.ok().map(|payload| (user, payload))
        }
    });
    let held: Vec<_> = futures::future::join_all(reads).await.into_iter().flatten().collect();
    let mut wanted = before.clone();
    for (user, payload) in &held {
        *wanted.entry(user.clone()).or_default() += payload.bytes.len().saturating_sub(intake::FREE);
    }
    let now = taken(&intake);
    assert_eq!(now, without_zeros(wanted), "what a read body takes is what it is long");
    assert!(now.values().all(|size| *size <= intake::ONE_USER) && now.values().sum::<usize>() <= intake::ALL);
    drop(held);
    assert_eq!(taken(&intake), before);
    drop(crowd);
    assert!(taken(&intake).is_empty(), "all is given back");
}

/// What each user has of the allowance.
fn taken(intake: &Intake) -> HashMap<String, usize> {
    let (all, by_user) = intake.in_use();
    assert_eq!(by_user.values().sum::<usize>(), all, "no part of the allowance is nobody's");
    by_user
}

fn crowd_is_there(how_large: u8) -> bool {
    how_large > 1
}

fn without_zeros(sizes: HashMap<String, usize>) -> HashMap<String, usize> {
    sizes.into_iter().filter(|(_, size)| *size > 0).collect()
}

/// Judges what became of a body that came by a schedule. With room for it, only its sender can be to blame.
fn check_intake(schedule: &[Step], end: End, outcome: &Result<Payload, u16>, took: Duration, has_room: bool) {
    let size: usize = schedule.iter().map(|step| step.size).sum();
    let time: Duration = schedule.iter().map(|step| step.pause).sum();
    let is_silent = end == End::Never || schedule.iter().any(|step| step.pause > intake::SILENCE);
    let longest = intake::SILENCE * 2 + Duration::from_secs(intake::BODY as u64 / intake::PACE) + ROUNDING;
    assert!(took <= longest, "a body was waited for for {took:?}");
    match outcome {
        Ok(payload) => {
            assert!(end == End::Whole && !is_silent && size <= intake::BODY);
            assert!(payload.bytes == BYTES[..size], "a body is read as it was sent");
        }
        Err(400) => assert!(end == End::Broken),
        Err(413) => assert!(size > intake::BODY),
        Err(429) => assert!(!has_room && size > intake::FREE),
        Err(504) => assert!(is_silent || time > intake::SILENCE),
        Err(other) => panic!("a body got a {other}"),
    }
    let is_in_time = end == End::Whole && time < intake::SILENCE && size <= intake::BODY;
    assert!(!is_in_time || outcome.is_ok() || !has_room && size > intake::FREE, "who keeps the time is heard");
}

/// What comes of a request after its answer is dropped, and no more than so much of it.
async fn go_on_sending(schedule: &[Step], end: End) {
    let (began, sent) = (Instant::now(), Arc::default());
    drop_unread(&HeaderMap::new(), body(schedule, end, &sent)).await;
    assert!(began.elapsed() <= intake::UNREAD_FOR + Duration::from_millis(1));
    let largest = SIZES[SIZES.len() - 1];
    assert!(sent.load(Ordering::Relaxed) <= intake::UNREAD + largest);
}

/// One seat, and the answer that keeps it.
struct Desk {
    flow_control: FlowControl,
    user: User,
    info: RequestInfo,
}

impl Desk {
    fn new() -> Self {
        let limits = Limits { max_requests_inflight: 1, max_mutating_requests_inflight: 1, fair: false };
        Self {
            flow_control: FlowControl::new(&limits, &daemon::detached().metrics, &TaskTracker::new()),
            user: User { name: "reader".to_owned(), ..User::default() },
            info: RequestInfo::parse(&Method::GET, "/api/v1/pods", &Query::default()),
        }
    }

    async fn seat(&self) -> Option<crate::flow_control::Seat> {
        self.flow_control.seat(None, &self.user, &self.info, None).await.ok().flatten()
    }

    async fn is_free(&self) -> bool {
        self.seat().await.is_some()
    }
}

/// Reads an answer by a schedule; at last goes away, stays without reading, or reads to the end.
async fn read(schedule: &[Step], at_last: u8) {
    let sizes = schedule.iter().map(|step| step.size.min(64 << 10)).filter(|size| *size > 0);
    let sizes: Vec<usize> = sizes.take(PIECES).collect();
    if sizes.is_empty() {
        return;
    }
    let (desk, sending, stop) = (Desk::new(), Arc::new(Sending::default()), CancellationToken::new());
    let watching = tokio::spawn(sending.clone().watch(stop.clone()));
    let cut = CancellationToken::new();
    let seat = desk.seat().await;
    assert!(seat.is_some() && !desk.is_free().await);
    let whole: usize = sizes.iter().sum();
    let pieces = stream::iter(sizes).map(|size| io::Result::Ok(BYTES.slice(..size)));
    let answer = sending.send(Answer::new(Body::from_stream(pieces)), seat, Some(Cut(cut.clone())), None);
    let mut body = answer.into_body();
    let (began, mut sent, mut longest) = (Instant::now(), 0, Duration::ZERO);
    let last = match at_last {
        0 => None,
        1 => Some(Duration::from_secs(600)),
        _ => Some(Duration::ZERO),
    };
    // The end takes a read of its own.
    let pauses = schedule.iter().map(|step| step.pause).chain(last.into_iter().cycle().take(PIECES + 1));
    let mut is_over = false;
    for pause in pauses {
        sleep(pause).await;
        longest = longest.max(pause);
        let late = Duration::from_secs(sent as u64 / sending::PACE);
        let has_had_its_time = pause > sending::PATIENCE + sending::LOOK + ROUNDING
            || began.elapsed() > sending::PATIENCE + late + sending::LOOK + ROUNDING;
        assert!(!has_had_its_time || cut.is_cancelled(), "a client was waited for for {:?}", began.elapsed());
        assert!(!cut.is_cancelled() || desk.is_free().await, "who was cut keeps no seat");
        match body.frame().await {
            Some(Ok(frame)) => sent += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) => {
                assert!(cut.is_cancelled(), "an answer breaks off for who was cut alone");
                is_over = true;
            }
            None => {
                assert_eq!(sent, whole);
                assert!(desk.is_free().await, "what was sent keeps no seat");
                is_over = true;
            }
        }
        if is_over {
            break;
        }
    }
    let is_in_time = longest < sending::PATIENCE && began.elapsed() < sending::PATIENCE;
    assert!(!is_in_time || !cut.is_cancelled(), "who keeps the time is not cut");
    assert_eq!(sending.stalled().get(), u64::from(cut.is_cancelled()));
    assert_eq!(sending.count(), 1);
    drop(body);
    assert!(desk.is_free().await && sending.count() == 0, "all is given back");
    stop.cancel();
    watching.await.expect("the watch ends when it is told to");
}

/// Schedules of those who send and read at once, slowly, hardly, and never.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    const READER: u8 = 0;
    let step = |who: u8, pause: u8, size: u8| [who * 16 + pause, size];
    let all = |steps: &[(u8, u8)]| -> Vec<u8> {
        let of_one = |who| steps.iter().flat_map(move |(pause, size)| step(who, *pause, *size));
        (READER..=SENDERS as u8).flat_map(of_one).collect()
    };
    let schedules = [
        all(&[(0, 14)]),
        all(&[(0, 9), (0, 9), (1, 9), (0, 10), (2, 1)]),
        all(&[(6, 1), (6, 1), (6, 1), (6, 1)]),
        all(&[(7, 12), (7, 12), (7, 11)]),
        all(&[(10, 9), (10, 9), (11, 9)]),
        all(&[(0, 3), (15, 3), (0, 3)]),
        all(&[(5, 0), (5, 15), (0, 13), (0, 13)]),
        all(&[(0, 9); 40]),
    ];
    let heads = [0b00_00_00, 0b01_00_00, 0b10_10_00, 0b10_11_00, 0b00_00_10, 0b01_11_11, 0b10_10_11, 0b10_00_00];
    heads.iter().zip(schedules).map(|(head, schedule)| [&[*head], &schedule[..]].concat()).collect()
}
