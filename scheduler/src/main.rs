//! The `scheduler` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::parse::<scheduler::Command>().run()
}
