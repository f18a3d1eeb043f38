//! The `proxy` binary.

use std::process::ExitCode;

daemon::allocator!();

fn main() -> ExitCode {
    daemon::parse::<proxy::Command>().run()
}
