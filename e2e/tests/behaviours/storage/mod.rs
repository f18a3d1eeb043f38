//! `[sig-storage]`: volumes of pods.

mod projections;

use e2e::Case;

pub(crate) const CASES: &[Case] = &[Case { name: "config-map-as-files", play: projections::config_map }];
