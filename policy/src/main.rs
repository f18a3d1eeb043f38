//! The `network-policy` binary.

use std::process::ExitCode;

daemon::allocator!();

fn main() -> ExitCode {
    daemon::parse::<policy::Command>().run()
}
