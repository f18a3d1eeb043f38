//! What components ask of a node.

pub mod selector;
