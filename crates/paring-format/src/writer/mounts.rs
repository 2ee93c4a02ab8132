//! Folders on which disks are mounted: they cannot be renamed.

use std::path::{Path, PathBuf};

/// The first place at or below a real folder where something is mounted.
#[cfg(target_os = "linux")]
pub(super) fn first_below(real: &Path) -> Option<PathBuf> {
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    let places = table.split(|&b| b == b'\n').filter_map(|line| line.split(|&b| b == b' ').nth(4));
    places.map(unescaped).find(|place| place.starts_with(real))
}

/// Elsewhere another device than that of the folder above shows it.
#[cfg(all(unix, not(target_os = "linux")))]
pub(super) fn first_below(real: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    (device(real) != device(real.parent()?)).then(|| real.to_path_buf())
}

#[cfg(not(unix))]
pub(super) fn first_below(_: &Path) -> Option<PathBuf> {
    None
}

/// A path of the table: spaces, tabs, line ends and backslashes are three octal digits after a backslash.
#[cfg(target_os = "linux")]
fn unescaped(text: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((&first, more)) = rest.split_first() {
        let octal = more.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            None => {
                bytes.push(first);
                rest = more;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_their_place() {
        assert_eq!(first_below(Path::new("/proc")), Some("/proc".into()));
        assert_eq!(first_below(Path::new("/proc/self")), None);
        assert!(first_below(Path::new("/")).is_some());
        assert_eq!(unescaped(br"/a\040b\134c"), Path::new(r"/a b\c"));
    }
}
