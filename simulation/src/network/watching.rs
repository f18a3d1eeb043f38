//! The way of a watch's frames: in order, but late, cut off or silent for a while.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Broken, Network, PATIENCE, State};

/// What happens in front of a frame.
enum Trouble {
    None,
    Wait(Duration),
    Cut,
}

struct Stream {
    frames: BodyDataStream,
    network: Network,
    who: Arc<str>,
    breaks: watch::Receiver<u64>,
}

/// The same frames, with trouble on the way.
pub(super) fn troubled(body: Body, network: Network, who: Arc<str>) -> Body {
    let breaks = network.breaks.subscribe();
    let stream = Stream { frames: body.into_data_stream(), network, who, breaks };
    Body::from_stream(stream::unfold(Some(stream), |stream| async {
        let mut stream = stream?;
        match stream.next().await {
            Ok(Some(frame)) => Some((Ok::<_, Broken>(frame), Some(stream))),
            Ok(None) => None,
            Err(broken) => Some((Err(broken), None)),
        }
    }))
}

impl Stream {
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        let Self { frames, network, who, breaks } = self;
        let frame = async {
            let frame = frames.next().await.transpose();
            if let Some(until) = network.apart_until(who) {
                network.pause_until(until.min(Instant::now() + PATIENCE)).await;
                return if network.apart_until(who).is_some() { Err(Broken::TimedOut) } else { Ok(frame) };
            }
            match network.trouble() {
                Trouble::None => {}
                Trouble::Wait(lasts) => network.pause_until(Instant::now() + lasts).await,
                Trouble::Cut => return Err(Broken::Reset),
            }
            Ok(frame)
        };
        let frame = tokio::select! {
            biased;
            frame = frame => frame?,
            _broken = breaks.changed() => return Err(Broken::Reset),
        };
        frame.map_err(|_: axum::Error| Broken::Reset)
    }
}

impl Network {
    fn trouble(&self) -> Trouble {
        let State { dice, faults, .. } = &mut *self.state();
        if dice.chance(faults.cut) {
            return Trouble::Cut;
        }
        if dice.chance(faults.stall) {
            return Trouble::Wait(dice.millis(5_000..60_000));
        }
        if dice.chance(faults.late) {
            return Trouble::Wait(dice.millis(1..3_000));
        }
        Trouble::None
    }
}
