//! The `apiserver` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::parse::<apiserver::Command>().run()
}
