//! The search for a node.

use super::*;

#[test]
fn large_clusters_are_searched_in_part() {
    assert_eq!([50, 100, 1000, 5000, 10_000].map(|nodes| enough(nodes, 0)), [100, 100, 420, 500, 500]);
    assert_eq!(enough(5000, 100), 5000);
}
