//! The language that rules of kinds are written in: a cursor over an object, the errors it gathers, and the checks that
//! kinds of several groups share (upstream: `pkg/apis/core/validation`, `apimachinery/pkg/api/validation`).

pub(crate) mod addresses;
pub(crate) mod gates;
pub(crate) mod labels;
pub(crate) mod naming;
pub(crate) mod pem;
pub(crate) mod ratchet;
pub(crate) mod shown;
pub(crate) mod structs;
pub(crate) mod tree;
pub(crate) mod url;
