//! Folds equal functions into one: a binary with every component has each generic function many times over, and what is
//! mapped of it counts as memory.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The linker that comes with Rust for this target can do it.
    let is = |variable: &str, value: &str| env::var(variable).is_ok_and(|found| found == value);
    if is("TARGET", "x86_64-unknown-linux-gnu") && is("PROFILE", "release") {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
}
