//! Writes seeds for the targets whose seeds are made of the samples of all kinds.

use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    for (target, seeds) in [("kinds", targets::seeds_of_kinds()), ("protobuf", targets::seeds_of_protobuf())] {
        let directory = Path::new("corpus").join(target);
        fs::create_dir_all(&directory)?;
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(directory.join(format!("seed-{number:03}")), seed)?;
        }
    }
    Ok(())
}
