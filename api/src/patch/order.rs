//! The order of lists after a strategic merge: elements of the patch in the patch's order, elements that only the
//! server has in the server's order, interleaved as the server had them.

use std::collections::HashMap;

use serde_json::Value;

/// Tells elements of a merging list apart: by a key's value, or by themselves (lists of primitives).
#[derive(Clone, Copy)]
pub(super) struct Identity<'a>(pub(super) Option<&'a str>);

impl Identity<'_> {
    /// What identifies the element.
    pub(super) fn of(self, element: &Value) -> Option<&Value> {
        match self.0 {
            Some(key) => element.get(key),
            None => Some(element),
        }
    }

    /// Whether two elements are the same one.
    pub(super) fn same(self, a: &Value, b: &Value) -> bool {
        matches!((self.of(a), self.of(b)), (Some(a), Some(b)) if a == b)
    }
}

/// Where the elements of a list are. Lists may be long, so that looking through them for each element takes too long.
struct Positions<'l>(HashMap<&'l Value, usize>);

impl<'l> Positions<'l> {
    fn of(list: &'l [Value], identity: Identity<'_>) -> Self {
        let mut positions = HashMap::with_capacity(list.len());
        for (at, element) in list.iter().enumerate() {
            if let Some(known) = identity.of(element) {
                positions.entry(known).or_insert(at);
            }
        }
        Self(positions)
    }

    fn at(&self, element: &Value, identity: Identity<'_>) -> Option<usize> {
        self.0.get(identity.of(element)?).copied()
    }
}

/// Orders `merged` by `patch_order`, and what is not in it by `server_order`.
pub(super) fn normalize(
    merged: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    identity: Identity<'_>,
) -> Vec<Value> {
    let (by_patch, by_server) = (Positions::of(patch_order, identity), Positions::of(server_order, identity));
    let (mut patched, mut server_only): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|element| by_patch.at(element, identity).is_some());
    patched.sort_by_key(|element| by_patch.at(element, identity));
    server_only.sort_by_key(|element| by_server.at(element, identity));
    interleave(server_only, patched, &by_server, identity)
}

/// Merges the lists, keeping the order of each: an element of the server goes before the next one of the patch only
/// when the server had both, in this order.
fn interleave(
    server_only: Vec<Value>,
    patched: Vec<Value>,
    by_server: &Positions<'_>,
    identity: Identity<'_>,
) -> Vec<Value> {
    let mut all = Vec::with_capacity(server_only.len() + patched.len());
    let mut left = server_only.into_iter().peekable();
    let mut right = patched.into_iter().peekable();
    while let (Some(l), Some(r)) = (left.peek(), right.peek()) {
        let (at_left, at_right) = (by_server.at(l, identity), by_server.at(r, identity));
        let left_first = matches!((at_left, at_right), (Some(l), Some(r)) if l < r);
        all.extend(if left_first { left.next() } else { right.next() });
    }
    all.extend(left);
    all.extend(right);
    all
}
