//! Amounts that an administrator writes (upstream: `ThresholdValue`).

use std::str::FromStr;

/// How much must be available: an amount, a part of what there is, or a part up to an amount.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Threshold {
    Bytes(u64),
    Percent(f64),
    AtMost { percent: f64, bytes: u64 },
}

impl Threshold {
    /// How much that is of `total`.
    pub(crate) fn amount(self, total: u64) -> u64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a percentage of bytes needs no more precision"
        )]
        let part = |percent: f64| (total as f64 * percent / 100.0) as u64;
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => part(percent),
            Self::AtMost { percent, bytes } => part(percent).min(bytes),
        }
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.parse().map_err(|_| format!("{text:?} is not a percentage"))?;
            return if (0.0..=100.0).contains(&percent) {
                Ok(Self::Percent(percent))
            } else {
                Err(format!("{text:?} is not a percentage"))
            };
        }
        bytes(text).map(Self::Bytes)
    }
}

/// A quantity of bytes, such as `10Mi`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let quantity = k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.to_owned());
    let bytes = crate::resources::value(&quantity).and_then(|bytes| u64::try_from(bytes).ok());
    bytes.ok_or_else(|| format!("{text:?} is not a quantity such as 10Mi"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_an_amount_or_a_part() {
        assert_eq!("100Mi".parse(), Ok(Threshold::Bytes(100 << 20)));
        assert_eq!("7.5%".parse(), Ok(Threshold::Percent(7.5)));
        for bad in ["", "x", "101%", "-1", "%"] {
            assert!(bad.parse::<Threshold>().is_err(), "{bad}");
        }
        assert_eq!((Threshold::Percent(10.0).amount(100), Threshold::Bytes(7).amount(100)), (10, 7));
        let at_most = Threshold::AtMost { percent: 10.0, bytes: 2 << 30 };
        assert_eq!((at_most.amount(10 << 30), at_most.amount(250 << 30)), (1 << 30, 2 << 30));
    }
}
