//! The shim as a program of its own: smaller in memory than the whole `coracle` binary run as `coracle shim`.

fn main() -> std::process::ExitCode {
    runtime::shim::main()
}
