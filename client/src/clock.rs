//! The one place that reads wall time, so that API timestamps follow tokio's clock when a test pauses it.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

/// The current time; in a runtime with paused time it stands still and moves only as that clock is advanced.
pub fn now() -> Timestamp {
    let virtual_now = tokio::time::Instant::now().into_std();
    let real_now = std::time::Instant::now();
    let wall = Timestamp::now();
    let shifted = match virtual_now.checked_duration_since(real_now) {
        Some(ahead) => SignedDuration::try_from(ahead).ok().and_then(|by| wall.checked_add(by).ok()),
        None => {
            SignedDuration::try_from(real_now.duration_since(virtual_now)).ok().and_then(|by| wall.checked_sub(by).ok())
        }
    };
    shifted.unwrap_or(wall)
}

/// [`now`] as the second-precise time of most API fields.
pub fn time() -> Time {
    Time(now())
}

/// [`now`] as the microsecond-precise time of leases and events.
pub fn micro_time() -> MicroTime {
    MicroTime(now())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wall_time_follows_the_paused_clock() {
        let before = now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        let passed = now().duration_since(before);
        assert!((passed.as_secs_f64() - 3600.0).abs() < 1.0, "{passed}");
    }
}
