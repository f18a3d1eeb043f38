//! What this server has just written: when the store tells of it, nothing has to be read again.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::object::Facts;

/// More writes than this are hardly ever under way at once. Those that failed, or that a store tells of with a copy of
/// the value, leave in their turn.
const KEPT: usize = 256;

/// Values on their way to the store, and what selectors ask of them.
#[derive(Debug, Default)]
pub(super) struct Written(Mutex<VecDeque<(Bytes, Facts)>>);

impl Written {
    /// Remembers a value that is about to be written.
    pub(super) fn note(&self, value: Bytes, facts: Facts) {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if values.len() == KEPT {
            values.pop_front();
        }
        values.push_back((value, facts));
    }

    /// What is known of a value that the store tells of: the very same, not an equal one.
    pub(super) fn take(&self, value: &Bytes) -> Option<Facts> {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |(known, _): &(Bytes, Facts)| known.as_ptr() == value.as_ptr() && known.len() == value.len();
        let at = values.iter().position(is_it)?;
        values.remove(at).map(|(_, facts)| facts)
    }
}

#[cfg(test)]
mod tests {
    use super::super::labels::Labels;
    use super::*;

    fn facts() -> Facts {
        Facts { labels: Labels::default(), fields: Box::default() }
    }

    #[test]
    fn a_value_is_known_once_and_only_itself() {
        let (written, value) = (Written::default(), Bytes::from(b"{}".to_vec()));
        written.note(value.clone(), facts());
        assert!(written.take(&Bytes::from(b"{}".to_vec())).is_none());
        assert!(written.take(&value).is_some() && written.take(&value).is_none());
    }

    #[test]
    fn what_nobody_tells_of_is_forgotten() {
        let (written, value) = (Written::default(), Bytes::from(b"{}".to_vec()));
        written.note(value.clone(), facts());
        (0..KEPT).for_each(|_| written.note(Bytes::from(b"{}".to_vec()), facts()));
        assert!(written.take(&value).is_none());
    }
}
