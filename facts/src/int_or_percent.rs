//! Numbers that may be percentages.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A number that is not negative, or a percentage of `total`; what is neither is 0.
pub fn portion(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    let percent = match value {
        IntOrString::Int(number) => return (*number).max(0),
        IntOrString::String(text) => text
            .strip_suffix('%')
            .and_then(|text| text.parse::<i64>().ok())
            .filter(|percent| *percent >= 0)
            .unwrap_or(0),
    };
    let scaled = i64::from(total).saturating_mul(percent);
    let share = if round_up { scaled.saturating_add(99).div_euclid(100) } else { scaled.div_euclid(100) };
    i32::try_from(share.max(0)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_they_are_asked_to() {
        let percent = |text: &str| IntOrString::String(text.into());
        assert_eq!(portion(&percent("25%"), 10, true), 3);
        assert_eq!(portion(&percent("25%"), 10, false), 2);
        assert_eq!(portion(&percent("0%"), 10, true), 0);
        assert_eq!(portion(&IntOrString::Int(4), 10, true), 4);
        assert_eq!(portion(&percent("nonsense"), 10, true), 0);
        assert_eq!(portion(&percent("100%"), i32::MAX, true), i32::MAX);
        assert_eq!(portion(&percent("9223372036854775807%"), 10, true), i32::MAX);
    }
}
