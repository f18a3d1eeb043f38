//! The `announce` process; see the library.

use std::process::ExitCode;

daemon::allocator!();

fn main() -> ExitCode {
    daemon::parse::<announce::Command>().run()
}
