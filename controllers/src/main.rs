//! The `controller-manager` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::parse::<controllers::Command>().run()
}
