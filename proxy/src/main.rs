//! The `proxy` binary.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    proxy::Command::parse().run()
}
