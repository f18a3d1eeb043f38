//! The `controller-manager` binary.

use std::process::ExitCode;

daemon::allocator!();

fn main() -> ExitCode {
    daemon::parse::<controllers::Command>().run()
}
