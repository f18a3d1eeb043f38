//! The `kubelet` binary; called as `kubelet shim` it is the shim of one pod.

use std::process::ExitCode;

daemon::allocator!();

fn main() -> ExitCode {
    // A shim must fork while it has one thread: this comes before everything else.
    if std::env::args_os().nth(1).is_some_and(|word| word == "shim") {
        return runtime::shim::main();
    }
    daemon::parse::<kubelet::Command>().run()
}
