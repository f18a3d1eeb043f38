//! Bodies of requests: read whole before a seat is taken, so that whoever sends slowly holds up nobody. Upstream:
//! `handlers.limitedReadBody`.
//!
//! A body may be small for nothing. What is more comes out of one allowance for all bodies that are being read, wait for
//! a seat or are worked on, of which one user may have a part.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::ApiError;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::EXPECT;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::Instant;

/// Largest body of a request.
pub(crate) const BODY: usize = 3 * 1024 * 1024;
/// So much of a body does not count.
pub(crate) const FREE: usize = 64 * 1024;
/// What all bodies may have beyond that, and what those of one user may.
pub(crate) const ALL: usize = 256 << 20;
pub(crate) const ONE_USER: usize = ALL / 4;
/// Who sends nothing for so long is given up.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);
/// After that time, whoever has sent fewer bytes a second than this is given up, too.
pub(crate) const PACE: u64 = 1024;
/// What is unread when a request has been answered is dropped, up to so many bytes and so long.
pub(crate) const UNREAD: usize = 3 * 1024 * 1024;
pub(crate) const UNREAD_FOR: Duration = Duration::from_secs(1);
/// Those who find no room come back after so many seconds.
const RETRY_AFTER: u32 = 1;

/// The allowance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Intake(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_user: HashMap<String, usize>,
}

/// A body that was read.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    /// Kept by being alive.
    _room: Option<Room>,
}

/// A part of the allowance; dropping it gives it back.
#[derive(Debug)]
struct Room {
    intake: Intake,
    user: String,
    size: usize,
}

impl Intake {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes of the allowance are taken: by all, and by each user.
    pub(crate) fn in_use(&self) -> (usize, HashMap<String, usize>) {
        let taken = self.taken();
        (taken.all, taken.by_user.clone())
    }

    /// Reads a whole body, up to the limit. What is left of it stays in `body`.
    pub(crate) async fn read(&self, body: &mut Body, user: &str) -> Result<Payload, ApiError> {
        let began = Instant::now();
        let (mut first, mut rest, mut size) = (Bytes::new(), BytesMut::new(), 0);
        let mut room = None;
        while !body.is_end_stream() {
            let frame = match tokio::time::timeout(SILENCE, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(err))) => {
                    return Err(ApiError::bad_request(format!("the body could not be read: {err}")));
                }
                Err(_elapsed) => return Err(too_slow()),
            };
            let Ok(data) = frame.into_data() else { continue };
            size += data.len();
            if size > BODY {
                return Err(ApiError::too_large(format!("Request entity too large: limit is {BODY}")));
            }
            if began.elapsed() > SILENCE && (size as u64) < began.elapsed().as_secs() * PACE {
                return Err(too_slow());
            }
            if size > FREE {
                self.take(&mut room, user, size - FREE)?;
            }
            if first.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&first);
                }
                rest.extend_from_slice(&data);
            }
        }
        Ok(Payload { bytes: if rest.is_empty() { first } else { rest.freeze() }, _room: room })
    }

    /// Lets a body have so much of the allowance.
    fn take(&self, room: &mut Option<Room>, user: &str, size: usize) -> Result<(), ApiError> {
        let room = room.get_or_insert_with(|| Room { intake: self.clone(), user: user.to_owned(), size: 0 });
        let more = size - room.size;
        let mut taken = self.taken();
        let of_user = taken.by_user.get(user).copied().unwrap_or(0);
        if taken.all + more > ALL || of_user + more > ONE_USER {
            return Err(ApiError::too_many_requests("Too many requests, please try again later.", RETRY_AFTER));
        }
        taken.all += more;
        taken.by_user.insert(user.to_owned(), of_user + more);
        room.size = size;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut taken = self.intake.taken();
        taken.all -= self.size;
        if let Some(of_user) = taken.by_user.get_mut(&self.user) {
            *of_user -= self.size;
            if *of_user == 0 {
                taken.by_user.remove(&self.user);
            }
        }
    }
}

fn too_slow() -> ApiError {
    ApiError::timeout("Timeout: the body of the request comes too slowly", 0)
}

/// Reads and drops what a client goes on sending after its request was answered, within bounds: a client that is cut
/// off while it sends may never see the answer. Who waits to be asked for a body (`Expect`) has not sent any.
pub(crate) async fn drop_unread(headers: &HeaderMap, mut body: Body) {
    if body.is_end_stream() || headers.contains_key(EXPECT) {
        return;
    }
    let reading = async {
        let mut size = 0;
        while let Some(Ok(frame)) = body.frame().await {
            size += frame.data_ref().map_or(0, Bytes::len);
            if size > UNREAD {
                break;
            }
        }
    };
    // Who sends for longer has had its time.
    let _elapsed = tokio::time::timeout(UNREAD_FOR, reading).await;
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, stream};

    use super::*;

    type Piece = Result<Bytes, std::convert::Infallible>;

    fn pieces(count: usize, size: usize) -> Body {
        Body::from_stream(stream::iter((0..count).map(move |_| Piece::Ok(vec![b'x'; size].into()))))
    }

    /// A piece every so often.
    fn slow(size: usize, every: Duration) -> Body {
        Body::from_stream(stream::repeat(()).then(move |()| async move {
            tokio::time::sleep(every).await;
            Piece::Ok(vec![b'x'; size].into())
        }))
    }

    #[tokio::test]
    async fn a_body_is_read_whole_up_to_the_limit() {
        let intake = Intake::default();
        let payload = intake.read(&mut pieces(3, BODY / 3), "a").await.unwrap();
        assert_eq!(payload.bytes.len(), BODY / 3 * 3);
        assert_eq!(intake.taken().all, payload.bytes.len() - FREE);
        drop(payload);
        assert!(intake.taken().all == 0 && intake.taken().by_user.is_empty());
        assert_eq!(intake.read(&mut pieces(4, BODY / 3), "a").await.unwrap_err().code(), 413);
        assert_eq!(intake.taken().all, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_too_slowly_is_given_up() {
        let intake = Intake::default();
        for (size, every) in [(BODY, Duration::from_secs(3600)), (1, Duration::from_secs(1))] {
            let began = Instant::now();
            let err = intake.read(&mut slow(size, every), "a").await.unwrap_err();
            assert_eq!(err.code(), 504);
            assert!(began.elapsed() <= SILENCE + Duration::from_secs(2));
        }
        let enough = slow(1 << 20, Duration::from_secs(5));
        let err = intake.read(&mut { enough }, "a").await.unwrap_err();
        assert_eq!(err.code(), 413, "who sends steadily is heard to the end");
    }

    #[tokio::test]
    async fn one_user_cannot_use_up_the_room_of_all() {
        let intake = Intake::default();
        let mut held = Vec::new();
        let refused = loop {
            match intake.read(&mut pieces(1, BODY), "greedy").await {
                Ok(payload) => held.push(payload),
                Err(err) => break err,
            }
        };
        assert_eq!(refused.code(), 429);
        assert!(held.len() * (BODY - FREE) <= ONE_USER && (held.len() + 1) * (BODY - FREE) > ONE_USER);
        assert!(intake.read(&mut pieces(1, FREE), "greedy").await.is_ok(), "small ones are always read");
        assert!(intake.read(&mut pieces(1, BODY), "modest").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_unread_is_dropped_within_bounds() {
        let began = Instant::now();
        drop_unread(&HeaderMap::new(), slow(1, Duration::from_millis(10))).await;
        assert_eq!(began.elapsed(), UNREAD_FOR);
        drop_unread(&HeaderMap::new(), Body::from_stream(stream::repeat_with(|| Piece::Ok(vec![0; 1024].into()))))
            .await;
        let waits = HeaderMap::from_iter([(EXPECT, http::HeaderValue::from_static("100-continue"))]);
        drop_unread(&waits, Body::from_stream(stream::pending::<Piece>())).await;
        assert_eq!(began.elapsed(), UNREAD_FOR);
    }
}
