//! The `dns` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::parse::<dns::Command>().run()
}
