//! The order of lists after a strategic merge: elements of the patch in the patch's order, elements that only the
//! server has in the server's order, interleaved as the server had them.

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

    /// The position of the element in `list`.
    fn position(self, list: &[Value], element: &Value) -> Option<usize> {
        list.iter().position(|other| self.same(other, element))
    }
}

/// Orders `merged` by `patch_order`, and what is not in it by `server_order`.
pub(super) fn normalize(
    merged: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    identity: Identity<'_>,
) -> Vec<Value> {
    let (mut patched, mut server_only): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|element| identity.position(patch_order, element).is_some());
    patched.sort_by_key(|element| identity.position(patch_order, element));
    server_only.sort_by_key(|element| identity.position(server_order, element));
    interleave(server_only, patched, server_order, identity)
}

/// Merges the lists, keeping the order of each: an element of the server goes before the next one of the patch only
/// when the server had both, in this order.
fn interleave(
    server_only: Vec<Value>,
    patched: Vec<Value>,
    server_order: &[Value],
    identity: Identity<'_>,
) -> Vec<Value> {
    let mut all = Vec::with_capacity(server_only.len() + patched.len());
    let mut left = server_only.into_iter().peekable();
    let mut right = patched.into_iter().peekable();
    while let (Some(l), Some(r)) = (left.peek(), right.peek()) {
        let (at_left, at_right) = (identity.position(server_order, l), identity.position(server_order, r));
        let left_first = matches!((at_left, at_right), (Some(l), Some(r)) if l < r);
        all.extend(if left_first { left.next() } else { right.next() });
    }
    all.extend(left);
    all.extend(right);
    all
}
