//! How many seats a request takes: a list by the bytes that it brings into memory, a change by the watchers that are
//! told of it (KEP-1040, "width").

use std::time::Duration;

use super::queues::Work;
use crate::request::info::RequestInfo;
use crate::request::query::Query;
use crate::watch_cache::ResourceCache;

/// Bytes that a list may bring into memory for each seat.
const BYTES_EACH: u64 = 100_000;
/// Bytes of a list that are in memory at once, as its body is made while it is read.
const AT_ONCE: u64 = 1_000_000;
/// Seats of the widest list and of the widest change.
const WIDEST_LIST: u32 = 100;
const WIDEST_CHANGE: u32 = 10;
/// Watchers that are told of a change for each seat, and how long that takes.
const WATCHERS_EACH: usize = 10;
const TELLING: Duration = Duration::from_millis(5);

/// How many seats a request of a level takes that has so many for one.
pub(super) fn of(info: &RequestInfo, query: &Query, cache: Option<&ResourceCache>, most: u32) -> Work {
    let Some(cache) = cache.filter(|_| info.is_resource && info.subresource.is_empty()) else { return Work::of(1) };
    match info.verb() {
        "list" => Work::of(list(info, query, cache, most)),
        "watch" if query.flag("sendInitialEvents") => Work::of(list(info, query, cache, most)),
        "create" | "update" | "patch" | "delete" | "deletecollection" => {
            change(cache.watchers_of(&info.namespace, &info.name), most)
        }
        _ => Work::of(1),
    }
}

fn list(info: &RequestInfo, query: &Query, cache: &ResourceCache, most: u32) -> u32 {
    let (count, bytes) = cache.size();
    let limit = query.get("limit").and_then(|limit| limit.parse::<u64>().ok()).filter(|limit| *limit > 0);
    let looked_at = if info.name.is_empty() { limit.unwrap_or(count).min(count) } else { 1 };
    let each = bytes.checked_div(count).unwrap_or(0);
    let seats = looked_at.saturating_mul(each).min(AT_ONCE).div_ceil(BYTES_EACH);
    u32::try_from(seats).unwrap_or(WIDEST_LIST).clamp(1, most.clamp(1, WIDEST_LIST))
}

fn change(watchers: usize, most: u32) -> Work {
    if watchers < WATCHERS_EACH {
        return Work::of(1);
    }
    let wanted = u32::try_from(watchers.div_ceil(WATCHERS_EACH)).unwrap_or(u32::MAX);
    let later = wanted.min(most.clamp(1, WIDEST_CHANGE));
    // Fewer seats are taken for longer: the work is the same.
    let lingers = TELLING.mul_f64(f64::from(wanted) / f64::from(later));
    Work { seats: 1, later, lingers }
}

/// The most seats that one request of a level takes.
pub(super) fn most(nominal: u32, hand: Option<usize>) -> u32 {
    let Some(hand) = hand else { return u32::MAX };
    let share = (f64::from(nominal) * 0.15).ceil() as u32;
    share.min(nominal / u32::try_from(hand.max(1)).unwrap_or(u32::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_takes_seats_for_its_watchers() {
        assert_eq!(change(9, 10), Work::of(1));
        assert_eq!(change(25, 10), Work { seats: 1, later: 3, lingers: TELLING });
        assert_eq!(change(200, 10), Work { seats: 1, later: 10, lingers: 2 * TELLING });
        assert_eq!(change(200, 4), Work { seats: 1, later: 4, lingers: 5 * TELLING });
    }

    #[test]
    fn no_request_takes_more_than_a_part_of_its_level() {
        assert_eq!([most(49, Some(6)), most(245, Some(6)), most(25, Some(4)), most(3, Some(6))], [8, 37, 4, 1]);
        assert_eq!(most(13, None), u32::MAX);
    }
}
