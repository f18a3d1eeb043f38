//! Prints the attacks of the last test run as the page FAULTS.md.

use std::process::ExitCode;

const HEAD: &str = "# What was tried against Coracle, and what got through\n\n\
    Made by `cargo run -p coracle-faults > FAULTS.md` after `./test`: each line is a test that plays an attack, and fails\n\
    when one try of it gets through. SECURITY.md says what they stand for.\n\n";

fn main() -> ExitCode {
    match faults::recorded() {
        Ok(attacks) if attacks.is_empty() => {
            eprintln!("faults: nothing is on record: run ./test first");
            ExitCode::FAILURE
        }
        Ok(attacks) => {
            print!("{HEAD}{}", faults::table(&attacks));
            ExitCode::SUCCESS
        }
        Err(err) => {
            eprintln!("faults: {err}");
            ExitCode::FAILURE
        }
    }
}
