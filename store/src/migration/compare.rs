//! Whether two stores have the same.

use std::cmp::Ordering;
use std::time::Duration;

use crate::embedded::change::Change;
use crate::embedded::disk::checksum;

/// A key that expires may be gone so much before its time: etcd rounds, and clocks of machines differ a little.
const EARLY: Duration = Duration::from_secs(5);

/// What was compared, and is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    /// Over keys and values in their order.
    pub(super) checksum: u32,
}

/// Compares the entries of two stores, each in the order of its keys. Revisions are each store's own; what expires may be gone
/// in `target` when its time has come. The error is the first key that differs.
pub(super) fn compare(source: &[Change], target: &[Change], now: Duration) -> Result<Compared, String> {
    let mut rest = target.iter().peekable();
    let mut compared = Compared::default();
    let (mut here, mut there) = (0, 0);
    for one in source {
        match rest.peek().map_or(Ordering::Greater, |other| other.key.cmp(&one.key)) {
            Ordering::Less => break,
            Ordering::Greater if has_expired(one, now) => continue,
            Ordering::Greater => return Err(one.key.to_string()),
            Ordering::Equal => {}
        }
        let Some(other) = rest.next() else { break };
        if one.value != other.value || one.expires.is_some() != other.expires.is_some() {
            return Err(one.key.to_string());
        }
        (here, there) = (add(here, one), add(there, other));
        compared.entries += 1;
        compared.bytes += (one.key.len() + one.value.as_ref().map_or(0, bytes::Bytes::len)) as u64;
    }
    match rest.next() {
        Some(surplus) => Err(surplus.key.to_string()),
        None if here != there => Err("the checksum".to_owned()),
        None => Ok(Compared { checksum: here, ..compared }),
    }
}

fn has_expired(change: &Change, now: Duration) -> bool {
    change.expires.is_some_and(|second| Duration::from_secs(second) <= now + EARLY)
}

/// A checksum that goes on with an entry. Lengths keep keys and values apart.
fn add(sum: u32, change: &Change) -> u32 {
    let value = change.value.as_deref().unwrap_or_default();
    let lengths = [change.key.len() as u64, value.len() as u64].map(u64::to_le_bytes).concat();
    checksum(sum, &[&lengths, change.key.as_bytes(), value])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: &'static str, expires: Option<u64>) -> Change {
        let value = Some(value.as_bytes().into());
        Change { revision: 7, create_revision: 7, expires, key: key.into(), value }
    }

    fn check(source: &[Change], target: &[Change]) -> Result<u64, String> {
        compare(source, target, Duration::from_secs(1000)).map(|compared| compared.entries)
    }

    #[test]
    fn whatever_differs_is_named() {
        let all = [entry("a", "1", None), entry("b", "2", None), entry("c", "3", Some(5000))];
        assert_eq!(check(&all, &all), Ok(3));
        assert_eq!(check(&[], &[]), Ok(0));
        assert_eq!(check(&all, &all[..2]), Err("c".into()), "it has not expired");
        assert_eq!(check(&all, &all[1..]), Err("a".into()));
        assert_eq!(check(&all[1..], &all), Err("a".into()), "nobody else may write");
        assert_eq!(check(&all[..2], &all), Err("c".into()));
        assert_eq!(check(&all[..1], &[entry("a", "2", None)]), Err("a".into()));
        assert_eq!(check(&all[..1], &[entry("a", "1", Some(5000))]), Err("a".into()), "it would expire");
    }

    #[test]
    fn what_has_expired_may_be_gone() {
        let all = [entry("a", "1", Some(1003)), entry("b", "2", None), entry("c", "3", Some(999))];
        assert_eq!(check(&all, &all[1..2]), Ok(1));
        assert_eq!(check(&all, &all), Ok(3));
    }

    #[test]
    fn a_checksum_tells_keys_from_values() {
        let sum = |key, value| add(0, &entry(key, value, None));
        assert_ne!(sum("ab", "c"), sum("a", "bc"));
    }
}
