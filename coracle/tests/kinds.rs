//! KINDS.md says of every kind what becomes of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use api::catalog::Catalog;

const PAGE: &str = include_str!("../../KINDS.md");

/// By group and resource: what the page says that it is.
fn page() -> BTreeMap<(String, String), String> {
    let mut said = BTreeMap::new();
    let lines = PAGE.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    for line in lines.filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let key = (cells[2].to_owned(), cells[1].to_owned());
        assert!(said.insert(key, cells[3].to_owned()).is_none(), "twice: {line}");
    }
    said
}

#[test]
fn the_page_has_every_kind_of_the_catalog_and_no_other() {
    let catalog = Catalog::everything().with_resource_metrics();
    let known: std::collections::BTreeSet<(String, String)> =
        catalog.iter().map(|row| (row.group.to_string(), row.plural.to_string())).collect();
    let said = page();
    let missing: Vec<_> = known.iter().filter(|key| !said.contains_key(*key)).collect();
    let unknown: Vec<_> = said.keys().filter(|key| !known.contains(*key)).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:?}, unknown: {unknown:?}");
}

#[test]
fn every_kind_is_one_of_three_things() {
    for (key, is) in page() {
        assert!(["works", "part", "stored"].contains(&is.as_str()), "{key:?}: {is}");
    }
}
