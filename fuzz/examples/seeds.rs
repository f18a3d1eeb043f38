//! Writes the seeds that are made rather than kept.

use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    for (target, seeds) in targets::seeds() {
        let directory = Path::new("corpus").join(target);
        fs::create_dir_all(&directory)?;
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(directory.join(format!("seed-{number:03}")), seed)?;
        }
    }
    Ok(())
}
