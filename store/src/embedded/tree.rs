//! A persistent, ordered set of entries that also knows how many there are in any range.
//!
//! A weight-balanced tree (Adams, with Hirai and Yamamoto's parameters 3 and 2). A clone is a snapshot in O(1): nodes
//! are shared, and a writer copies only those on its path that some snapshot still holds.

use std::cmp::Ordering;
use std::mem;
use std::sync::Arc;

use crate::Entry;

/// Entries by key. Cloning is O(1).
#[derive(Clone, Default)]
pub(super) struct Tree {
    root: Link,
}

type Link = Option<Arc<Node>>;

#[derive(Clone)]
struct Node {
    entry: Entry,
    size: usize,
    left: Link,
    right: Link,
}

impl Tree {
    /// The entry with this key, in O(log n).
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        let mut link = &self.root;
        while let Some(node) = link {
            link = match key.cmp(&node.entry.key) {
                Ordering::Less => &node.left,
                Ordering::Equal => return Some(&node.entry),
                Ordering::Greater => &node.right,
            };
        }
        None
    }

    /// Adds an entry, in place of the one with its key if there is one.
    pub(super) fn insert(&mut self, entry: Entry) {
        insert(&mut self.root, entry);
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, key: &str) {
        if self.get(key).is_some() {
            remove(&mut self.root, key);
        }
    }

    /// How many entries lie before the first whose key is not `before`; true must not follow false in key order.
    pub(super) fn rank(&self, before: impl Fn(&str) -> bool) -> usize {
        let (mut link, mut rank) = (&self.root, 0);
        while let Some(node) = link {
            if before(&node.entry.key) {
                rank += size(&node.left) + 1;
                link = &node.right;
            } else {
                link = &node.left;
            }
        }
        rank
    }

    /// The entries in key order, from the first whose key is not `before`.
    pub(super) fn iter_from(&self, before: impl Fn(&str) -> bool) -> Iter<'_> {
        let (mut link, mut path) = (&self.root, Vec::new());
        while let Some(node) = link {
            if before(&node.entry.key) {
                link = &node.right;
            } else {
                path.push(&**node);
                link = &node.left;
            }
        }
        Iter { path }
    }
}

/// Entries in key order.
pub(super) struct Iter<'a> {
    /// Nodes whose entry and right side are still to come, nearest last.
    path: Vec<&'a Node>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        let node = self.path.pop()?;
        let mut link = &node.right;
        while let Some(next) = link {
            self.path.push(next);
            link = &next.left;
        }
        Some(&node.entry)
    }
}

impl Node {
    fn resize(&mut self) {
        self.size = size(&self.left) + size(&self.right) + 1;
    }
}

fn size(link: &Link) -> usize {
    link.as_ref().map_or(0, |node| node.size)
}

fn weight(link: &Link) -> usize {
    size(link) + 1
}

fn insert(link: &mut Link, entry: Entry) {
    let Some(arc) = link else {
        *link = Some(Arc::new(Node { entry, size: 1, left: None, right: None }));
        return;
    };
    let node = Arc::make_mut(arc);
    match entry.key.cmp(&node.entry.key) {
        Ordering::Less => insert(&mut node.left, entry),
        Ordering::Equal => node.entry = entry,
        Ordering::Greater => insert(&mut node.right, entry),
    }
    balance(arc);
}

/// Takes the node with `key` out of a tree that has it.
fn remove(link: &mut Link, key: &str) {
    let Some(arc) = link else { return };
    let node = Arc::make_mut(arc);
    match key.cmp(&node.entry.key) {
        Ordering::Less => remove(&mut node.left, key),
        Ordering::Greater => remove(&mut node.right, key),
        Ordering::Equal => {
            if node.left.is_none() {
                *link = node.right.take();
                return;
            }
            match remove_first(&mut node.right) {
                Some(next) => node.entry = next,
                None => {
                    *link = node.left.take();
                    return;
                }
            }
        }
    }
    balance(arc);
}

fn remove_first(link: &mut Link) -> Option<Entry> {
    let arc = link.as_mut()?;
    let node = Arc::make_mut(arc);
    if node.left.is_none() {
        let first = node.entry.clone();
        *link = node.right.take();
        return Some(first);
    }
    let first = remove_first(&mut node.left);
    balance(arc);
    first
}

/// Sets the size of a node whose sides may have changed by one, and rotates if one side became too heavy.
fn balance(arc: &mut Arc<Node>) {
    const DELTA: usize = 3;
    const RATIO: usize = 2;
    let node = Arc::make_mut(arc);
    node.resize();
    if weight(&node.right) > DELTA * weight(&node.left) {
        let right = Arc::make_mut(node.right.as_mut().expect("the heavier side has a node"));
        if weight(&right.left) >= RATIO * weight(&right.right) {
            rotate_right(node.right.as_mut().expect("the heavier side has a node"));
        }
        rotate_left(arc);
    } else if weight(&node.left) > DELTA * weight(&node.right) {
        let left = Arc::make_mut(node.left.as_mut().expect("the heavier side has a node"));
        if weight(&left.right) >= RATIO * weight(&left.left) {
            rotate_left(node.left.as_mut().expect("the heavier side has a node"));
        }
        rotate_right(arc);
    }
}

fn rotate_left(arc: &mut Arc<Node>) {
    let node = Arc::make_mut(arc);
    let mut right = node.right.take().expect("rotated towards the lighter side");
    node.right = Arc::make_mut(&mut right).left.take();
    node.resize();
    let old = mem::replace(arc, right);
    let root = Arc::make_mut(arc);
    root.left = Some(old);
    root.resize();
}

fn rotate_right(arc: &mut Arc<Node>) {
    let node = Arc::make_mut(arc);
    let mut left = node.left.take().expect("rotated towards the lighter side");
    node.left = Arc::make_mut(&mut left).right.take();
    node.resize();
    let old = mem::replace(arc, left);
    let root = Arc::make_mut(arc);
    root.right = Some(old);
    root.resize();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn entry(key: u16, revision: u64) -> Entry {
        Entry { key: format!("{key:05}").into(), value: Bytes::new(), create_revision: 1, mod_revision: revision }
    }

    fn depth(link: &Link) -> usize {
        link.as_ref().map_or(0, |node| 1 + depth(&node.left).max(depth(&node.right)))
    }

    fn keys(tree: &Tree) -> Vec<String> {
        tree.iter_from(|_| false).map(|entry| entry.key.to_string()).collect()
    }

    proptest! {
        #[test]
        fn behaves_as_an_ordered_map_and_keeps_snapshots(ops in prop::collection::vec((any::<bool>(), 0u16..200), 0..600)) {
            let (mut tree, mut model) = (Tree::default(), BTreeMap::new());
            let mut snapshots = Vec::new();
            for (revision, (add, key)) in ops.into_iter().enumerate() {
                let entry = entry(key, revision as u64);
                if add {
                    model.insert(entry.key.to_string(), revision);
                    tree.insert(entry);
                } else {
                    model.remove(&*entry.key);
                    tree.remove(&entry.key);
                }
                if revision % 50 == 0 {
                    snapshots.push((tree.clone(), model.keys().cloned().collect::<Vec<_>>()));
                }
            }
            prop_assert_eq!(keys(&tree), model.keys().cloned().collect::<Vec<_>>());
            for bound in ["", "00050", "00100x", "9"] {
                prop_assert_eq!(tree.rank(|key| key < bound), model.keys().filter(|key| key.as_str() < bound).count());
            }
            for (snapshot, expected) in snapshots {
                prop_assert_eq!(keys(&snapshot), expected);
            }
        }
    }

    #[test]
    fn stays_shallow_when_keys_arrive_and_leave_in_order() {
        let mut tree = Tree::default();
        (0..10_000).for_each(|key| tree.insert(entry(key, 1)));
        assert!(depth(&tree.root) <= 30, "{}", depth(&tree.root));
        (0..9_000).for_each(|key| tree.remove(&entry(key, 1).key));
        assert_eq!(size(&tree.root), 1_000);
        assert!(depth(&tree.root) <= 24, "{}", depth(&tree.root));
    }
}
