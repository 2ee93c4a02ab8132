//! Machine, system and command of a run.

use std::fs;

use candle_core::Device;
use paring_kernels::{device, matmul};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The program and the machine that it ran on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// `paring` and its version.
    pub program: String,
    /// The operating system, its kernel and the architecture.
    pub system: String,
    /// The processor, as it calls itself; empty if the system does not say.
    pub cpu: String,
    /// Extensions of the processor's instructions that the program chooses its code by, if it has them.
    pub instructions: Vec<String>,
    /// The kinds of arithmetic that computed, in words, each with bits of its own in sums: one, unless a run was resumed elsewhere and that was allowed.
    #[serde(default)]
    pub arithmetic: Vec<String>,
    /// Processors that the system lets the program use.
    pub cores: usize,
    /// Threads that compute.
    pub threads: usize,
    /// Memory of the machine, in MiB; 0 if the system does not say.
    pub memory_mib: f64,
}

impl Environment {
    /// Describes this machine and this process; `arithmetic` is what the run was computed with.
    pub fn now(arithmetic: Vec<String>) -> Self {
        let memory = line_of("/proc/meminfo", "MemTotal:");
        let kib: Option<f64> = memory.and_then(|text| text.split_whitespace().next()?.parse().ok());
        let cpu = line_of("/proc/cpuinfo", "model name").unwrap_or_default();
        Self {
            program: concat!("paring ", env!("CARGO_PKG_VERSION")).to_string(),
            system: system(),
            cpu: cpu.trim_start_matches([' ', '\t', ':']).to_string(),
            instructions: instructions().into_iter().map(String::from).collect(),
            arithmetic,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: rayon::current_num_threads(),
            memory_mib: kib.unwrap_or(0.0) / 1024.0,
        }
    }
}

/// Everything that decides the bits of sums on this device, in words: two runs of one plan on one input that have the same write the same
/// bytes. Errors when the driver does not say the device's name, and when the environment asks for instructions that the
/// processor does not have.
pub fn arithmetic(device: &Device) -> Result<String> {
    let cpu = matmul::arithmetic().map_err(Error::Misuse)?;
    match device.is_cpu() {
        true => Ok(cpu),
        false => Ok(format!("{} beside {cpu}", device::name(device)?)),
    }
}

/// Returns the rest of the line that begins with a key; `None` without such a file or line.
fn line_of(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(key)?.trim().to_string()))
}

fn system() -> String {
    let name = line_of("/etc/os-release", "PRETTY_NAME=").map(|name| name.trim_matches('"').to_string());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| format!("Linux {}", text.trim()));
    let os = name.is_none().then(|| std::env::consts::OS.to_string());
    let parts = [os, name, kernel, Some(std::env::consts::ARCH.to_string())];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(target_arch = "x86_64")]
fn instructions() -> Vec<&'static str> {
    let found = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512dq", is_x86_feature_detected!("avx512dq")),
        ("avx512vbmi", is_x86_feature_detected!("avx512vbmi")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    found.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

#[cfg(target_arch = "aarch64")]
fn instructions() -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected;
    let found = [("neon", is_aarch64_feature_detected!("neon")), ("bf16", is_aarch64_feature_detected!("bf16"))];
    found.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn instructions() -> Vec<&'static str> {
    Vec::new()
}

/// Joins words into one line for a POSIX shell, quoting those that it would read in another way.
pub fn quoted(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    let quote = |word: &String| match !word.is_empty() && word.chars().all(plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}
