//! The `controller-manager` binary.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    controllers::Command::parse().run()
}
