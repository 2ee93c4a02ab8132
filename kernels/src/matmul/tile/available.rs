//! The versions that a processor has, their names, and the variable of the environment that leaves the fastest ones out.

use std::ffi::OsString;
use std::sync::OnceLock;

use super::Isa;

/// The variable that names the fastest version to use: machines of several kinds compute alike with it.
pub const ISA: &str = "PARING_ISA";

/// The name that the program was given instead of the variable's.
static CHOSEN: OnceLock<(&'static str, OsString)> = OnceLock::new();

static AVAILABLE: OnceLock<Vec<Isa>> = OnceLock::new();

/// Those that are used, the fastest first.
pub(super) fn available() -> &'static [Isa] {
    AVAILABLE.get_or_init(|| {
        let mut found = detected();
        // A name that means nothing is an error of `arithmetic`, before any work.
        let first = first_of(&named(), &found).unwrap_or(0);
        found.drain(..first);
        found
    })
}

/// Makes the version of that name the fastest one that is used, whatever [`ISA`] says: before the first product, and once. `place` comes
/// before the name where [`arithmetic`] finds that there is no such version. Errors, in words, when another was chosen before.
pub fn choose(place: &'static str, name: OsString) -> Result<(), String> {
    let asked = (place, name);
    if AVAILABLE.get().is_some() || CHOSEN.get_or_init(|| asked.clone()) != &asked {
        return Err(format!("instructions were chosen before {place}{} was asked for", asked.1.display()));
    }
    Ok(())
}

/// The name that was asked for, and the words before it.
fn named() -> (&'static str, Option<OsString>) {
    match CHOSEN.get() {
        Some((place, name)) => (*place, Some(name.clone())),
        None => ("PARING_ISA=", std::env::var_os(ISA)),
    }
}

/// Those that the processor has, the fastest first.
fn detected() -> Vec<Isa> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        #[cfg(target_os = "linux")]
        if super::blocks::amx::permitted() {
            found.push(Isa::Amx);
        }
        let avx512 = is_x86_feature_detected!("avx512f");
        if avx512 {
            found.push(Isa::Avx512);
        }
        if avx512 && is_x86_feature_detected!("avx512bf16") {
            found.push(Isa::Avx512Bf16);
            // Slower than f32 on Intel's processors that were measured: 154 GFLOP/s where pairs that are widened reach 225.
            if !is_intel() {
                found.rotate_right(1);
            }
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            found.push(Isa::Avx2);
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        let neon = std::arch::is_aarch64_feature_detected!("neon");
        if neon && std::arch::is_aarch64_feature_detected!("bf16") {
            found.push(Isa::Bf16Mmla);
        }
        if neon {
            found.push(Isa::Neon);
        }
    }
    found.extend([Isa::Portable, Isa::Blocks]);
    found
}

/// True if Intel made the processor, as it says itself.
#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    let who = std::arch::x86_64::__cpuid(0);
    [who.ebx, who.edx, who.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
}

/// The number of the version that is named, of those that were found; 0 where none is.
fn first_of((place, named): &(&str, Option<OsString>), found: &[Isa]) -> Result<usize, String> {
    let Some(named) = named.as_ref().filter(|named| !named.is_empty()) else { return Ok(0) };
    found.iter().position(|isa| named == isa.name()).ok_or_else(|| {
        let names: Vec<&str> = found.iter().map(|isa| isa.name()).collect();
        format!("{place}{}: expected one of those that this processor has: {}", named.display(), names.join(", "))
    })
}

/// Everything about this machine and process that decides the bits of sums on the CPU, in words: the version of the tile, the
/// architecture, and the system, whose library computes exponentials. Errors, in words, when [`ISA`] or [`choose`] names a version
/// that there is not.
pub fn arithmetic() -> Result<String, String> {
    let found = detected();
    let first = first_of(&named(), &found)?;
    let used = found[first];
    // Other libraries choose for themselves. Theirs are two ways: with fused multiply-add, which all but the last have, or without.
    let plain = |isa| matches!(isa, Isa::Portable | Isa::Blocks);
    let fused = if plain(used) && !plain(found[0]) { " beside fused libraries" } else { "" };
    Ok(format!("{}{fused} on {} {}", used.name(), std::env::consts::ARCH, std::env::consts::OS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_or_refused() {
        let found = detected();
        let first = |name: Option<&str>| first_of(&("PARING_ISA=", name.map(OsString::from)), &found);
        for (i, isa) in found.iter().enumerate() {
            assert_eq!(first(Some(isa.name())), Ok(i));
        }
        assert_eq!((first(None), first(Some(""))), (Ok(0), Ok(0)));
        let error = first(Some("mmx")).unwrap_err();
        assert!(error.starts_with("PARING_ISA=mmx: expected one of") && error.ends_with("portable, blocks"), "{error}");
        let here = arithmetic().unwrap();
        assert!(here.starts_with(Isa::current().name()) && here.contains(std::env::consts::ARCH), "{here}");
    }
}
