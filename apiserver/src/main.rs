//! The `apiserver` binary.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    apiserver::Command::parse().run()
}
