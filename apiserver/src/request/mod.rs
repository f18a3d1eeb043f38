//! What a request says: its line (upstream's `endpoints/request`), its headers, its query and options, what it accepts
//! (`handlers/negotiation`), its body and the object in that.

pub(crate) mod decode;
pub(crate) mod headers;
pub mod info;
pub(crate) mod intake;
pub(crate) mod negotiate;
pub mod options;
pub mod query;
