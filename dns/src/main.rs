//! The `dns` binary.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    dns::Command::parse().run()
}
