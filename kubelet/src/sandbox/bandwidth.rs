//! How fast a pod may receive and send, by its annotations (upstream: pkg/util/bandwidth, which runtimes ask).

use std::collections::BTreeMap;

use facts::quantity::Quantity;
use runtime::Bandwidth;

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// In bits a second, as upstream's.
const LEAST: i64 = 1000;
const MOST: i64 = 1_000_000_000_000_000;

/// What the annotations say; an error for whoever wrote them.
pub(super) fn of(annotations: &BTreeMap<String, String>) -> Result<Bandwidth, String> {
    let rate = |name: &str| {
        let text = annotations.get(name).map(String::as_str);
        let rate = text.map(rate).transpose();
        rate.map_err(|why| format!("failed to get pod bandwidth info from annotations: {name}: {why}"))
    };
    Ok(Bandwidth { ingress: rate(INGRESS)?, egress: rate(EGRESS)? })
}

fn rate(text: &str) -> Result<u64, String> {
    match text.parse::<Quantity>().map_err(|err| err.to_string())?.value() {
        ..LEAST => Err("resource is unreasonably small (< 1kbit)".to_owned()),
        rate if rate > MOST => Err("resource is unreasonably large (> 1Pbit)".to_owned()),
        rate => Ok(rate.unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str) -> Result<Bandwidth, String> {
        of(&BTreeMap::from([(name.to_owned(), text.to_owned())]))
    }

    #[test]
    fn rates_are_quantities_of_bits_a_second() {
        assert_eq!(of(&BTreeMap::new()), Ok(Bandwidth::default()));
        assert_eq!(check(INGRESS, "10M"), Ok(Bandwidth { ingress: Some(10_000_000), egress: None }));
        assert_eq!(check(EGRESS, "1Ki"), Ok(Bandwidth { ingress: None, egress: Some(1024) }));
        assert_eq!(check(EGRESS, "1P"), Ok(Bandwidth { ingress: None, egress: Some(1_000_000_000_000_000) }));
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for (text, word) in [
            ("1", "small"),
            ("-10M", "small"),
            ("999", "small"),
            ("2P", "large"),
            ("", "quantities"),
            ("fast", "quantit"),
        ] {
            let err = check(INGRESS, text).unwrap_err();
            assert!(err.contains(word) && err.contains(INGRESS), "{text}: {err}");
        }
    }
}
