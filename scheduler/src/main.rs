//! The `scheduler` binary.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    scheduler::Command::parse().run()
}
