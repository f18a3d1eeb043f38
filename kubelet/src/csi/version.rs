//! Versions of the interface that drivers say they speak (upstream: highestSupportedVersion of pkg/volume/csi).

/// Major, minor and patch.
pub(super) type Version = (u32, u32, u32);

/// The highest of these that this node speaks, too.
pub(super) fn highest(versions: &[String]) -> Option<Version> {
    versions.iter().filter_map(|text| parse(text)).filter(|version| version.0 == 1).max()
}

/// Reads `1.2.3`, `v1.2` or `1.0.0-rc2`.
fn parse(text: &str) -> Option<Version> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let plain = text.split(['-', '+']).next()?;
    let mut parts = plain.split('.').map(|part| part.parse().ok());
    let (major, minor, patch) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    parts.next().is_none().then_some((major, minor, patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_of_the_first_major_one_counts() {
        let check = |versions: &[&str], expected: Option<Version>| {
            let versions: Vec<String> = versions.iter().map(|&version| version.into()).collect();
            assert_eq!(highest(&versions), expected, "{versions:?}");
        };
        check(&["1.0.0"], Some((1, 0, 0)));
        check(&["0.3.0", "v1.2.0", "1.11", "2.0.0"], Some((1, 11, 0)));
        check(&["1.0.0-rc2"], Some((1, 0, 0)));
        check(&["0.3.0"], None);
        check(&["", "one", "1", "1.2.3.4", "1.x"], None);
    }
}
