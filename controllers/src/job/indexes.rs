//! Sets of completion indexes, in the notation of `completedIndexes`: `1,3-5,7`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Completion indexes, each below the Job's number of completions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(BTreeSet<i32>);

impl Indexes {
    /// Reads the notation; what is malformed or not below `completions` is left out.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let interval = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.trim().parse().ok()?..=last.trim().parse::<i32>().ok()?.min(completions - 1))
        };
        Self(text.split(',').filter_map(interval).flatten().filter(|index| *index >= 0).collect())
    }

    pub(super) fn insert(&mut self, index: i32) {
        self.0.insert(index);
    }

    pub(super) fn contains(&self, index: i32) -> bool {
        self.0.contains(&index)
    }

    /// How many there are.
    pub(super) fn len(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }

    /// How many are in the other set too.
    pub(super) fn common(&self, other: &Self) -> i32 {
        i32::try_from(self.0.intersection(&other.0).count()).unwrap_or(i32::MAX)
    }

    /// The notation; intervals of three and more are written as such.
    pub(super) fn notation(&self) -> String {
        let mut text = String::new();
        let mut rest = self.0.iter().copied().peekable();
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if_eq(&(last + 1)) {
                last = next;
            }
            let comma = if text.is_empty() { "" } else { "," };
            let written = match last - first {
                0 => write!(text, "{comma}{first}"),
                1 => write!(text, "{comma}{first},{last}"),
                _ => write!(text, "{comma}{first}-{last}"),
            };
            written.expect("writing to a String cannot fail");
        }
        text
    }
}

impl FromIterator<i32> for Indexes {
    fn from_iter<I: IntoIterator<Item = i32>>(indexes: I) -> Self {
        Self(indexes.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation_reads_back() {
        for text in ["", "0", "0,1", "1,3-5,7", "0-9"] {
            assert_eq!(Indexes::parse(text, 10).notation(), text);
        }
    }

    #[test]
    fn what_cannot_be_an_index_is_left_out() {
        assert_eq!(Indexes::parse("x,-3,2-,4,8-2000000000", 10).notation(), "4,8,9");
        assert_eq!(Indexes::parse("0-5", 0).len(), 0);
    }
}
