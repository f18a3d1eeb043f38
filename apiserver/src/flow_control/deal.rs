//! Shuffle sharding: each flow has a hand of queues, so that two flows seldom share all of theirs (KEP-1040).

/// More cards than any valid configuration deals: a hash has no more than 60 bits of chance.
const MOST: usize = 64;

/// The queues that a flow may use.
pub(super) struct Hand {
    cards: [usize; MOST],
    size: usize,
}

impl Hand {
    /// Deals `size` different cards out of `deck`, as `hash` says.
    pub(super) fn deal(mut hash: u64, deck: usize, size: usize) -> Self {
        let mut hand = Self { cards: [0; MOST], size: 0 };
        let mut sorted = [0; MOST];
        for dealt in 0..size.min(deck).min(MOST) {
            let left = (deck - dealt) as u64;
            // Fits, as it is less than the size of the deck.
            let mut card = (hash % left) as usize;
            hash /= left;
            // The card of that number among those that are left.
            let mut place = 0;
            while place < dealt && sorted[place] <= card {
                card += 1;
                place += 1;
            }
            sorted.copy_within(place..dealt, place + 1);
            sorted[place] = card;
            hand.cards[dealt] = card;
            hand.size = dealt + 1;
        }
        hand
    }

    pub(super) fn cards(&self) -> &[usize] {
        &self.cards[..self.size]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hand_has_different_cards_of_the_deck(hash: u64, deck in 1..200_usize, size in 1..20_usize) {
            let hand = Hand::deal(hash, deck, size);
            let different: HashSet<_> = hand.cards().iter().collect();
            prop_assert_eq!(different.len(), size.min(deck));
            prop_assert!(hand.cards().iter().all(|card| *card < deck));
        }
    }

    #[test]
    fn all_hands_are_dealt_equally_often() {
        let mut counts = [[0; 4]; 4];
        for hash in 0..12_000 {
            let hand = Hand::deal(hash, 4, 2);
            counts[hand.cards()[0]][hand.cards()[1]] += 1;
        }
        for (first, row) in counts.iter().enumerate() {
            for (second, count) in row.iter().enumerate() {
                assert_eq!(*count, if first == second { 0 } else { 1000 });
            }
        }
    }
}
