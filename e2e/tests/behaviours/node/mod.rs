//! `[sig-node]`: pods, their containers, and what these are told.

mod environment;

use e2e::Case;

pub(crate) const CASES: &[Case] = &[Case { name: "config-map-as-environment", play: environment::config_map }];
