//! The `proxy` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::parse::<proxy::Command>().run()
}
