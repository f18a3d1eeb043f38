//! `[sig-storage]`: volumes of pods.

mod claims;
mod downward;
mod empty_dir;
mod files;
mod host_path;
mod pods;
mod sub_paths;
mod updates;

use e2e::Case;

pub(crate) const CASES: &[Case] = &[
    // The long ones first.
    Case { name: "fifty-config-maps-in-each-of-five-pods", play: empty_dir::many_wrapped },
    Case { name: "claim-in-use", play: claims::protection },
    Case { name: "volume-and-claim-lifecycle", play: claims::lifecycle },
    Case { name: "volume-and-claim-status", play: claims::status },
    Case { name: "config-map-files", play: files::config_map },
    Case { name: "projected-config-map-files", play: files::projected_config_map },
    Case { name: "secret-files", play: files::secret },
    Case { name: "projected-secret-files", play: files::projected_secret },
    Case { name: "downward-files", play: downward::by_itself },
    Case { name: "projected-downward-files", play: downward::projected },
    Case { name: "all-projections", play: downward::combined },
    Case { name: "config-map-updates", play: updates::config_map },
    Case { name: "projected-config-map-updates", play: updates::projected_config_map },
    Case { name: "secret-updates", play: updates::secret },
    Case { name: "projected-secret-updates", play: updates::projected_secret },
    Case { name: "empty-dir-modes", play: empty_dir::modes },
    Case { name: "empty-dir-shared", play: empty_dir::shared },
    Case { name: "wrapped-secret-and-config-map", play: empty_dir::wrapped },
    Case { name: "sub-paths", play: sub_paths::atomic },
    Case { name: "sub-path-after-restart", play: sub_paths::after_restart },
    Case { name: "sub-path-that-leads-out", play: sub_paths::leading_out },
    Case { name: "host-path-types", play: host_path::types },
];
