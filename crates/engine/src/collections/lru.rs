//! A bounded map that evicts its oldest entry.

use crate::steps;
use alloc::collections::BTreeMap;

/// A map that also keeps its entries in insertion order.
///
/// Both orders are B-trees, so keys chosen by a peer cannot degrade it.
#[derive(Debug)]
pub(crate) struct Aging<K, V> {
    entries: BTreeMap<K, (u64, V)>,
    ages: BTreeMap<u64, K>,
    next: u64,
}

impl<K, V> Default for Aging<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), ages: BTreeMap::new(), next: 0 }
    }
}

impl<K: Ord + Copy, V> Aging<K, V> {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        steps::count();
        self.entries.get(key).map(|(_, value)| value)
    }

    /// Adds the youngest entry, replacing an entry with this key.
    pub fn insert(&mut self, key: K, value: V) {
        steps::count();
        let age = self.next;
        self.next += 1;
        self.ages.insert(age, key);
        if let Some((before, _)) = self.entries.insert(key, (age, value)) {
            self.ages.remove(&before);
        }
    }

    /// The entry with this key, or a new, youngest one.
    pub fn get_or_insert_with(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        steps::count();
        let (_, value) = self.entries.entry(key).or_insert_with(|| {
            let age = self.next;
            self.next += 1;
            self.ages.insert(age, key);
            (age, value())
        });
        value
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        steps::count();
        let (age, value) = self.entries.remove(key)?;
        self.ages.remove(&age);
        Some(value)
    }

    pub fn oldest(&self) -> Option<&V> {
        let (_, key) = self.ages.first_key_value()?;
        self.get(key)
    }

    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        steps::count();
        let (_, key) = self.ages.pop_first()?;
        let (_, value) = self.entries.remove(&key)?;
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_one_inserted_again_last() {
        let mut aging = Aging::default();
        for key in [3, 1, 2] {
            aging.insert(key, key * 10);
        }
        aging.insert(3, 30);
        aging.insert(2, 21);
        assert_eq!((aging.len(), aging.oldest(), aging.get(&2)), (3, Some(&10), Some(&21)));
        assert_eq!(aging.remove(&1), Some(10));
        assert_eq!((aging.pop_oldest(), aging.pop_oldest()), (Some((3, 30)), Some((2, 21))));
        assert_eq!((aging.pop_oldest(), aging.oldest()), (None, None));
    }
}
