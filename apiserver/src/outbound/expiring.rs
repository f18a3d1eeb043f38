//! Answers of others that are kept for a while: bounded in number, and in time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What an answer is found by: a digest of the question, so that questions (tokens are among them) are not kept.
type Key = [u8; 32];

/// Answers by question. When there are too many, the one that came first goes.
pub(crate) struct Expiring<V> {
    most: usize,
    kept: Mutex<Kept<V>>,
}

struct Kept<V> {
    answers: HashMap<Key, (Instant, V)>,
    /// The keys in the order in which they came, each once.
    order: VecDeque<Key>,
}

impl<V: Clone> Expiring<V> {
    /// Keeps at most so many answers.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, kept: Mutex::new(Kept { answers: HashMap::new(), order: VecDeque::new() }) }
    }

    /// The answer to a question, if it still counts.
    pub(crate) fn get(&self, question: &[u8]) -> Option<V> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, answer) = kept.answers.get(&digest(question))?;
        (Instant::now() < *until).then(|| answer.clone())
    }

    /// Keeps an answer for so long.
    pub(crate) fn put(&self, question: &[u8], answer: V, life: Duration) {
        let Some(until) = Instant::now().checked_add(life).filter(|_| !life.is_zero()) else { return };
        let key = digest(question);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.answers.insert(key, (until, answer)).is_none() {
            kept.order.push_back(key);
        }
        while kept.order.len() > self.most {
            let oldest = kept.order.pop_front();
            oldest.and_then(|oldest| kept.answers.remove(&oldest));
        }
    }
}

fn digest(question: &[u8]) -> Key {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, question);
    let mut key = Key::default();
    key.copy_from_slice(digest.as_ref());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_count_for_their_time_and_are_bounded() {
        let answers = Expiring::new(2);
        answers.put(b"a", 1, Duration::from_secs(10));
        answers.put(b"never", 1, Duration::ZERO);
        assert_eq!((answers.get(b"a"), answers.get(b"b"), answers.get(b"never")), (Some(1), None, None));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(answers.get(b"a"), None);
        answers.put(b"a", 2, Duration::from_secs(10));
        answers.put(b"b", 3, Duration::from_secs(10));
        answers.put(b"c", 4, Duration::from_secs(10));
        assert_eq!((answers.get(b"a"), answers.get(b"b"), answers.get(b"c")), (None, Some(3), Some(4)));
    }
}
