//! The names of all targets, one a line; `targets seeds FOLDER GOLDEN` writes a folder of inputs for each of them, made of
//! golden files.

use std::path::Path;

use paring_fuzz::{bodies, seeds};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [] => bodies::targets().iter().for_each(|name| println!("{name}")),
        [command, to, golden] if command == "seeds" => seeds::write(Path::new(to), Path::new(golden))?,
        _ => return Err("expected nothing, or: seeds FOLDER GOLDEN".into()),
    }
    Ok(())
}
