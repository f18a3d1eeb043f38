//! Seeded chance: every part of a simulation throws dice of its own, so that what one part asks changes nothing for others.

use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Dice of one part.
#[derive(Debug)]
pub struct Dice(StdRng);

impl Dice {
    /// The dice of a seed for a purpose.
    pub fn new(seed: u64, purpose: &str) -> Self {
        // FNV-1a: the same on every machine.
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let purpose = purpose.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix);
        Self(StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose))
    }

    /// Whether something happens that does so this often (0 to 1).
    pub fn chance(&mut self, of: f64) -> bool {
        self.0.random_bool(of.clamp(0.0, 1.0))
    }

    /// A number out of a range that is not empty.
    pub fn number(&mut self, range: Range<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// An index of something that has so many.
    pub fn index(&mut self, of: usize) -> usize {
        self.0.random_range(0..of.max(1))
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    /// A time between two numbers of milliseconds.
    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.number(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_purpose_fall_the_same_and_others_do_not() {
        let throw =
            |seed, purpose| (0..8).map(|_| 0).scan(Dice::new(seed, purpose), |dice, _| Some(dice.number(0..1000)));
        let throw = |seed, purpose| throw(seed, purpose).collect::<Vec<_>>();
        assert_eq!(throw(1, "nodes"), throw(1, "nodes"));
        assert_ne!(throw(1, "nodes"), throw(2, "nodes"));
        assert_ne!(throw(1, "nodes"), throw(1, "user"));
    }
}
