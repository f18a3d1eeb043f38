//! What is fuzzed of this crate: a function per input that comes from outside. None may panic, hang or use much memory,
//! whatever the bytes; and what each promises about what it does accept is asserted.

use crate::server::spdy::fuzzing;

/// A target: its name and what it does.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[FuzzTarget] = &[("spdy", fuzzing::frames), ("spdy_headers", fuzzing::header_block)];

/// Seeds of [`TARGETS`].
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "spdy" => fuzzing::conversations(),
        "spdy_headers" => fuzzing::header_blocks(),
        _ => Vec::new(),
    }
}
