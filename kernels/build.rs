//! Compiles the CUDA kernels to PTX with nvcc, where the feature `cuda` asks for them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest architecture that is supported. Its PTX is compiled by the driver for whatever newer card it meets.
const ARCHITECTURE: &str = "compute_80";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH", "PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let nvcc = nvcc();
    let mut sources = Vec::new();
    find(Path::new("src"), &mut sources);
    for source in sources.iter().filter(|path| path.extension().is_some_and(|e| e == "cu")) {
        let name = source.file_stem().expect("it ends in .cu");
        compile(&nvcc, source, &out.join(name).with_extension("ptx"));
    }
}

/// nvcc by its own variable, in the toolkit's folder, or wherever the shell finds it.
fn nvcc() -> PathBuf {
    let in_toolkit = |name: &str| Some(PathBuf::from(env::var_os(name)?).join("bin").join("nvcc"));
    let candidates = [env::var_os("NVCC").map(PathBuf::from), in_toolkit("CUDA_HOME"), in_toolkit("CUDA_PATH")];
    candidates.into_iter().flatten().find(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("nvcc"))
}

/// All kernels and headers under a folder; cargo is to watch them.
fn find(folder: &Path, found: &mut Vec<PathBuf>) {
    println!("cargo:rerun-if-changed={}", folder.display());
    let entries = folder.read_dir().unwrap_or_else(|e| fail(&format!("{}: {e}", folder.display())));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        match path.extension().and_then(|e| e.to_str()) {
            _ if path.is_dir() => find(&path, found),
            Some("cu" | "cuh") => {
                println!("cargo:rerun-if-changed={}", path.display());
                found.push(path);
            }
            _ => {}
        }
    }
}

fn compile(nvcc: &Path, source: &Path, ptx: &Path) {
    let mut command = Command::new(nvcc);
    command.args(["-ptx", "-std=c++17", "-O3", "-arch", ARCHITECTURE, "-I", "src/cuda", "-o"]).arg(ptx).arg(source);
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => fail(&format!("{}: {}", source.display(), String::from_utf8_lossy(&output.stderr))),
        Err(e) => fail(&format!(
            "the feature `cuda` needs nvcc, and {} did not start ({e}): install the CUDA toolkit and set CUDA_HOME to \
             its folder, or build without the feature",
            nvcc.display()
        )),
    }
}

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    std::process::exit(1)
}
