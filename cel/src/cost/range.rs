//! Ranges of sizes and costs. Nothing overflows: what is too large is as large as can be.

/// The fewest and most characters, elements or entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange {
    pub min: u64,
    pub max: u64,
}

/// The least and the most that something costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CostRange {
    pub min: u64,
    pub max: u64,
}

/// `size * factor`, rounded up.
pub(crate) fn scaled(size: u64, factor: f64) -> u64 {
    // The conversion back saturates.
    (size as f64 * factor).ceil() as u64
}

impl SizeRange {
    /// Any size.
    pub(crate) const UNKNOWN: Self = Self { min: 0, max: u64::MAX };
    /// No size seen yet.
    pub(crate) const NONE: Self = Self { min: u64::MAX, max: 0 };

    pub(crate) const fn fixed(size: u64) -> Self {
        Self { min: size, max: size }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub(crate) fn multiply(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    /// The cost of so much for each.
    pub(crate) fn by(self, factor: f64) -> CostRange {
        CostRange { min: scaled(self.min, factor), max: scaled(self.max, factor) }
    }

    /// The cost of as many rounds.
    pub(crate) fn times(self, cost: CostRange) -> CostRange {
        CostRange { min: self.min.saturating_mul(cost.min), max: self.max.saturating_mul(cost.max) }
    }
}

impl CostRange {
    pub(crate) const fn fixed(cost: u64) -> Self {
        Self { min: cost, max: cost }
    }

    pub(crate) fn add(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub(crate) fn multiply(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}
