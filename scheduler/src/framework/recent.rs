//! A few values by key, of which the one that was not used for longest makes room for a new one.

/// At most `limit` values. Keys are compared one by one: it is for a few.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    /// The one used last comes first.
    entries: Vec<(K, V)>,
    limit: usize,
}

impl<K, V> Recent<K, V> {
    /// With room for `limit` values, one at least.
    pub(crate) const fn new(limit: usize) -> Self {
        Self { entries: Vec::new(), limit }
    }

    /// The value whose key is right, or a new one.
    pub(crate) fn get_or_insert(&mut self, is_right: impl Fn(&K) -> bool, new: impl FnOnce() -> (K, V)) -> &mut V {
        match self.entries.iter().position(|(key, _)| is_right(key)) {
            Some(at) => self.entries[..=at].rotate_right(1),
            None => {
                self.entries.truncate(self.limit.saturating_sub(1));
                self.entries.insert(0, new());
            }
        }
        &mut self.entries[0].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_that_was_not_used_for_longest_goes() {
        let mut recent = Recent::new(2);
        let mut get = |key: u8, new: u8| *recent.get_or_insert(|known| *known == key, || (key, new));
        assert_eq!([get(1, 10), get(2, 20), get(1, 11), get(3, 30)], [10, 20, 10, 30]);
        assert_eq!([get(1, 12), get(2, 21)], [10, 21]);
    }
}
