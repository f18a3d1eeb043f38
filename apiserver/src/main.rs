//! The `apiserver` binary.

use std::process::ExitCode;

daemon::allocator!();

fn main() -> ExitCode {
    daemon::parse::<apiserver::Command>().run()
}
