//! Numbers that an administrator may change, with upstream's defaults.
use std::str::FromStr;
use std::time::Duration;

/// How the kubelet looks after its node.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    /// How often the lease is renewed and the status looked at.
    pub heartbeat: Duration,
    /// An unchanged status is repeated this often.
    pub report: Duration,
    /// How long the lease holds.
    pub lease_seconds: i32,
    /// The status lists this many images; `None` for all.
    pub max_images: Option<usize>,
    /// Image collection starts with so many percent of the disk used, and ends with fewer than the other.
    pub image_gc: (u64, u64),
    /// The largest log in bytes before it is rotated.
    pub max_log: u64,
    /// How many logs of a container are kept.
    pub log_files: u32,
    /// With less memory available the node is under pressure; `None` for what is wise on a small machine.
    pub least_memory: Option<Threshold>,
    /// With less disk available the node is under pressure; `None` for what is wise on a laptop.
    pub least_disk: Option<Threshold>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(10),
            report: Duration::from_secs(300),
            lease_seconds: 40,
            max_images: Some(50),
            image_gc: (85, 80),
            max_log: 10 << 20,
            log_files: 5,
            least_memory: None,
            least_disk: None,
        }
    }
}

/// How much must be available: an amount, or a part of what there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    Bytes(u64),
    Percent(f64),
}

impl Threshold {
    /// Whether less is available than must be.
    pub(crate) fn is_crossed(self, available: u64, total: u64) -> bool {
        match self {
            Self::Bytes(least) => available < least,
            #[expect(clippy::cast_precision_loss, reason = "a percentage of bytes needs no more precision")]
            Self::Percent(percent) => (available as f64) < total as f64 * percent / 100.0,
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
        assert!(Threshold::Percent(10.0).is_crossed(9, 100) && !Threshold::Percent(10.0).is_crossed(10, 100));
        assert!(Threshold::Bytes(10).is_crossed(9, 100));
    }
}
