//! The order of versions: `v2` before `v1` before `v1beta2` before `v1alpha1` before anything else.

use std::cmp::Reverse;

/// Greater means preferred.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority {
    /// Whether the version is named as Kubernetes names versions.
    known: bool,
    /// 2 for stable, 1 for beta, 0 for alpha.
    stability: u8,
    major: u64,
    minor: u64,
    /// Other names are ordered by the alphabet.
    name: Reverse<String>,
}

/// How much a version is preferred.
pub fn priority(version: &str) -> Priority {
    match parse(version) {
        Some((major, stability, minor)) => {
            Priority { known: true, stability, major, minor, name: Reverse(String::new()) }
        }
        None => Priority { known: false, stability: 0, major: 0, minor: 0, name: Reverse(version.to_owned()) },
    }
}

/// Major number, stability and minor number of `v1`, `v1beta2`.
fn parse(version: &str) -> Option<(u64, u8, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at(digits);
    let major = number(major)?;
    if rest.is_empty() {
        return Some((major, 2, 0));
    }
    let (stability, minor) = match (rest.strip_prefix("alpha"), rest.strip_prefix("beta")) {
        (Some(minor), _) => (0, minor),
        (_, Some(minor)) => (1, minor),
        _ => return None,
    };
    Some((major, stability, number(minor)?))
}

fn number(digits: &str) -> Option<u64> {
    (!digits.starts_with('0')).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_comes_before_beta_before_alpha_before_the_rest() {
        let order = ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"];
        let mut shuffled = order;
        shuffled.sort();
        shuffled.sort_by_key(|version| Reverse(priority(version)));
        assert_eq!(shuffled, order);
    }
}
