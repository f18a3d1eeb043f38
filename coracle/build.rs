//! How the one large binary is linked.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|text| text == value);
    // There rustc links with an LLD of its own (since 1.90), unless somebody has chosen another linker.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let is_chosen =
        env::var_os("RUSTC_LINKER").is_some() || ["linker", "fuse-ld"].iter().any(|word| flags.contains(word));
    if !is("TARGET", "x86_64-unknown-linux-gnu") || !is("PROFILE", "release") || is_chosen {
        return;
    }
    // Generic code that came out the same for several types is there once, and relocations take a bit each (DT_RELR).
    println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
