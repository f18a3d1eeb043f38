//! `[sig-node]`: pods, their containers, and what these are told.

mod commands;
mod environment;
mod hooks;
mod init;
mod outputs;
mod pods;
mod probes;
mod resize;
mod security;
mod sockets;
mod subpaths;
mod tools;

use e2e::{Case, Ground};

/// The longest come first: the others are played beside them.
pub(crate) const CASES: &[Case] = &[
    case("init-fails-again-and-again", init::one_fails_again_and_again),
    case("restart-policies", outputs::restart_policies),
    case("probes-of-dying-containers", probes::of_dying_containers),
    case("probes-of-healthy-containers", probes::of_healthy_containers),
    case("readiness-after-a-delay", probes::of_readiness_after_a_delay),
    case("readiness-that-never-comes", probes::of_readiness_that_never_comes),
    case("hooks", hooks::run_in_time),
    case("hook-before-the-end", hooks::before_the_end),
    case("resize-net-increase", resize::net_increase),
    case("resize-net-decrease", resize::net_decrease),
    case("resize-this-and-that", resize::this_and_that),
    case("resize-additions", resize::additions),
    case("resize-equivalents", resize::equivalents),
    case("resize-by-replacement", resize::by_replacement),
    case("subpath-part", subpaths::part),
    case("subpath-outside", subpaths::outside),
    case("subpath-mended", subpaths::mended),
    case("subpath-written", subpaths::written),
    case("pods-change", pods::change),
    case("pods-come-and-go", pods::come_and_go),
    case("pods-go-together", pods::go_together),
    case("pod-status", pods::status_is_written),
    case("debuggers", pods::get_debuggers),
    case("web-sockets", sockets::talk),
    case("init-before-one-run", init::before_one_run),
    case("init-before-a-service", init::before_a_service),
    case("init-fails-for-good", init::one_fails_for_good),
    case("environment-config-maps", environment::config_maps),
    case("environment-secrets", environment::secrets),
    case("environment-downward", environment::downward),
    case("environment-references", environment::references),
    case("environment-services", environment::services),
    case("commands-overridden", commands::overridden),
    case("image-as-volume", commands::as_volume),
    case("outputs", outputs::printed),
    case("failed-container", outputs::failed),
    case("last-words", outputs::last_words),
    case("host-aliases", outputs::host_aliases),
    case("etc-hosts", outputs::etc_hosts),
    case("rights", security::have_rights),
    case("no-new-rights", security::gain_no_rights),
    case("sysctls", security::set_sysctls),
];

const fn case(name: &'static str, play: fn(&Ground<'_>)) -> Case {
    Case { name, play }
}
