//! The encoding of text: UTF-8, and the name of what is another.

/// The byte order mark that programs of Windows put before UTF-8.
pub(super) const MARK: &[u8] = b"\xef\xbb\xbf";

/// Bytes around the first wrong one that are looked at.
const AROUND: usize = 4096;

/// The text of a file, as Python's `open` reads it: line ends are `\n`, and a byte order mark is part of it. The error
/// says where it is not UTF-8, and what it may be.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, String> {
    if let Some(name) = wider(&bytes) {
        return Err(not_utf8_but(name));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let (bytes, at) = (e.as_bytes(), e.utf8_error().valid_up_to());
        let line = 1 + bytes[..at].iter().filter(|&&b| b == b'\n').count();
        format!("not UTF-8 at byte {}, line {line}: {}", at + 1, advice(bytes))
    })?;
    Ok(if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text })
}

/// The name of a wider encoding that a file begins in: by its byte order mark, or by the zeros of its first letters.
pub(super) fn wider(start: &[u8]) -> Option<&'static str> {
    match start {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [a, 0, b, 0, ..] if *a > 0 && *b > 0 => Some("UTF-16LE"),
        [0, a, 0, b, ..] if *a > 0 && *b > 0 => Some("UTF-16BE"),
        _ => None,
    }
}

/// The reason why a file in a wider encoding is not read.
pub(super) fn not_utf8_but(name: &str) -> String {
    format!("not UTF-8 but {name}: {}", convert(name))
}

/// The advice on text in another encoding.
fn convert(encoding: &str) -> String {
    format!("convert it with iconv -f {encoding} -t UTF-8")
}

/// The reason why a line or a document is no text, which it is not.
pub(super) fn not_utf8(bytes: &[u8]) -> String {
    let at = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    format!("not UTF-8 at byte {}: {}", at + 1, advice(bytes))
}

/// The encoding that bytes look like which are not UTF-8, and what to do.
fn advice(bytes: &[u8]) -> String {
    let error = std::str::from_utf8(bytes).err();
    if error.is_some_and(|error| error.error_len().is_none()) {
        return "it ends in the middle of a letter; was it cut off?".into();
    }
    let at = error.map_or(0, |error| error.valid_up_to());
    match guess(&bytes[at..bytes.len().min(at + AROUND)]) {
        Some((name, encoding)) => format!("it looks like {name}; {}", convert(encoding)),
        None => convert("ITS-ENCODING"),
    }
}

/// The encoding of one byte a letter that bytes look like, and its name for iconv. In those, letters beyond ASCII stand
/// alone among others; in the encodings of Chinese or Japanese they come in rows.
fn guess(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let high = bytes.iter().filter(|&&b| b >= 0x80).count();
    let in_rows = bytes.windows(2).filter(|pair| pair[0] >= 0x80 && pair[1] >= 0x80).count();
    if in_rows * 4 > high {
        return None;
    }
    // Latin-1 has control characters where Windows has quotes, dashes and the euro.
    let windows = bytes.iter().any(|b| (0x80..0xa0).contains(b));
    let unused = bytes.iter().any(|b| matches!(b, 0x81 | 0x8d | 0x8f | 0x90 | 0x9d));
    match (windows, unused) {
        (_, true) => None,
        (true, _) => Some(("Windows-1252", "WINDOWS-1252")),
        (false, _) => Some(("Latin-1", "LATIN1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_those_of_python() {
        let read = |bytes: &[u8]| text(bytes.to_vec());
        assert_eq!(read(b"one\r\ntwo\rthree\n\r\n").unwrap(), "one\ntwo\nthree\n\n");
        assert_eq!(read(b"\xef\xbb\xbfone").unwrap(), "\u{feff}one");
        assert_eq!(read(b"").unwrap(), "");
        // Valid UTF-8, by its bytes.
        assert!(read(b"o\0n\0e\0").unwrap_err().contains("UTF-16LE"));
    }

    #[test]
    fn other_encodings_are_named() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let swapped = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
        for (bytes, words) in [
            (
                b"one\ntwo caf\xe9s".to_vec(),
                "not UTF-8 at byte 12, line 2: it looks like Latin-1; convert it with iconv -f LATIN1",
            ),
            (
                b"it\x92s \x93one\x94".to_vec(),
                "at byte 3, line 1: it looks like Windows-1252; convert it with iconv -f WINDOWS",
            ),
            (
                b"\x83\x65\x83\x58\x83\x67 \x81\x40\x90".to_vec(),
                "at byte 1, line 1: convert it with iconv -f ITS-ENCODING",
            ),
            (b"\xc4\xe3\xba\xc3\xca\xc0\xbd\xe7".to_vec(), "iconv -f ITS-ENCODING -t UTF-8"),
            (b"one \xe5\x8d".to_vec(), "at byte 5, line 1: it ends in the middle of a letter; was it cut off?"),
            (utf16("\u{feff}é"), "not UTF-8 but UTF-16: convert it with iconv -f UTF-16 -t UTF-8"),
            (swapped("\u{feff}é"), "not UTF-8 but UTF-16:"),
            (utf16("one é"), "not UTF-8 but UTF-16LE"),
            (swapped("one é"), "not UTF-8 but UTF-16BE"),
            (b"\xff\xfe\0\0o\0\0\0".to_vec(), "not UTF-8 but UTF-32"),
        ] {
            let reason = text(bytes).unwrap_err();
            assert!(reason.contains(words), "{reason}");
        }
        assert_eq!(
            not_utf8(b"caf\xe9s"),
            "not UTF-8 at byte 4: it looks like Latin-1; convert it with iconv -f LATIN1 -t UTF-8"
        );
    }
}
