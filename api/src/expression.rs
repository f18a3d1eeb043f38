//! What expressions anywhere in the API may use beside the language's own libraries.

mod quantity;

use std::sync::LazyLock;

use cel::Env;

/// What one expression may cost when it is worked out.
pub const COST_PER_EXPRESSION: u64 = 1_000_000;

/// The environment of all expressions; extend it by variables.
pub fn environment() -> &'static Env {
    static ENV: LazyLock<Env> = LazyLock::new(|| Env::kubernetes().extend().library(quantity::library()).build());
    &ENV
}
