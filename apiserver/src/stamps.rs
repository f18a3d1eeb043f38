//! What this server writes into the metadata of objects by itself: times, and names that it makes up (upstream's
//! `storage/names.SimpleNameGenerator`).

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use rand::RngExt as _;

/// Longest name a generated one may have before its five random characters (63 is the limit of a DNS label).
const GENERATED_PREFIX: usize = 58;
/// Letters of generated names: no vowels, no look-alikes.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A time as `metav1.Time` shows it.
pub(crate) fn timestamp(now: Timestamp) -> String {
    let round = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc);
    now.round(round).unwrap_or(now).to_string()
}

/// `prefix` with five random characters.
pub(crate) fn generated_name(prefix: &str) -> String {
    let mut end = prefix.len().min(GENERATED_PREFIX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut rng = rand::rng();
    let random = (0..5).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
    prefix[..end].chars().chain(random).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_whole_seconds() {
        let now: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
        assert_eq!(timestamp(now), "2026-01-02T03:04:05Z");
    }

    #[test]
    fn generated_names_fit_a_label() {
        let name = generated_name(&"a".repeat(80));
        assert_eq!(name.len(), 63);
        assert!(generated_name("web-").starts_with("web-"));
    }
}
