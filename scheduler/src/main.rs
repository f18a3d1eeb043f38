//! The `scheduler` binary.

use std::process::ExitCode;

daemon::allocator!();

fn main() -> ExitCode {
    daemon::parse::<scheduler::Command>().run()
}
