//! The `dns` binary.

use std::process::ExitCode;

daemon::allocator!();

fn main() -> ExitCode {
    daemon::parse::<dns::Command>().run()
}
