//! The lists of what once differed from Kubernetes: each line names a test that is there, or says why it needs none.

use std::collections::HashSet;
use std::fs;

use super::root;
use super::words::sources;

const LISTS: [&str; 2] = ["apiserver/tests/differences.md", "apiserver/tests/differences-objects.md"];
/// What a line may say instead of naming a test.
const REASONS: [&str; 3] = ["stays:", "measured:", "recorded:"];

/// The last cell of each line of the tables.
fn held_by(page: &str) -> impl Iterator<Item = (&str, &str)> {
    page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what |")).map(|line| {
        let cells = line.trim_end_matches('|').rsplit_once(" | ").unwrap();
        (line, cells.1.trim())
    })
}

/// Names between back quotes that could be those of tests: sentences of several words.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    let quoted = cell.split('`').skip(1).step_by(2).map(|name| name.rsplit(": ").next().unwrap());
    quoted.filter(|name| {
        name.matches('_').count() >= 2 && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
    })
}

#[test]
fn what_once_differed_is_held_by_a_test_that_is_there() {
    let mut known = HashSet::new();
    for file in sources(&root()) {
        let text = fs::read_to_string(file).unwrap();
        known.extend(text.split("fn ").skip(1).filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
    }
    for list in LISTS {
        let page = fs::read_to_string(root().join(list)).unwrap();
        for (line, cell) in held_by(&page) {
            let mut named = 0;
            for name in names(cell) {
                assert!(known.contains(name), "{list}: there is no test {name}\n{line}");
                named += 1;
            }
            let is_explained = REASONS.iter().any(|reason| cell.starts_with(reason));
            assert!(named > 0 || is_explained, "{list}: nothing holds\n{line}");
        }
    }
}
