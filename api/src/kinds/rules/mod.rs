//! The language that rules of kinds are written in: a cursor over an object, the errors it gathers, and the checks that
//! kinds of several groups share (upstream: `pkg/apis/core/validation`, `apimachinery/pkg/api/validation`).

pub(crate) mod addresses;
#[cfg(test)]
pub(crate) mod checks;
pub(crate) mod client_config;
pub(crate) mod conditions;
pub(crate) mod doubts;
pub(crate) mod fill;
pub(crate) mod labels;
pub(crate) mod lists;
pub(crate) mod load_balancer;
pub(crate) mod naming;
pub(crate) mod node_selector;
pub(crate) mod numbers;
pub(crate) mod pem;
pub(crate) mod quantities;
pub(crate) mod ratchet;
pub(crate) mod shown;
pub(crate) mod tree;
pub(crate) mod union;
pub(crate) mod url;
