//! Digests of files by which the hub names them: its etags.

use std::fmt::Write;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// The digest that an etag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DigestKind {
    /// Of the file's bytes, as of all files in the store of large ones: 64 hexadecimal digits.
    Sha256,
    /// Of a blob of git, which is a line with its size and the file's bytes: 40 digits.
    GitBlob,
}

impl DigestKind {
    /// `None` where an etag has the form of neither: such a file can be compared by its size only.
    pub fn of(etag: &str) -> Option<Self> {
        let kind = match etag.len() {
            64 => DigestKind::Sha256,
            40 => DigestKind::GitBlob,
            _ => return None,
        };
        etag.bytes().all(|b| b.is_ascii_hexdigit()).then_some(kind)
    }
}

/// The digest of a file that grows.
pub(super) struct Digest(Option<Context>);

impl Digest {
    /// Of a file that will have `size` bytes. Without a kind, nothing is computed.
    pub fn new(kind: Option<DigestKind>, size: u64) -> Self {
        Self(kind.map(|kind| match kind {
            DigestKind::Sha256 => Context::new(&SHA256),
            DigestKind::GitBlob => {
                let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                context.update(format!("blob {size}\0").as_bytes());
                context
            }
        }))
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(context) = &mut self.0 {
            context.update(bytes);
        }
    }

    /// The digest of what was taken, in lower-case hexadecimal digits.
    pub fn value(&self) -> Option<String> {
        let digest = self.0.clone()?.finish();
        Some(digest.as_ref().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `git hash-object` and `sha256sum`.
    #[test]
    fn digests_that_others_print() {
        let digest = |kind, text: &[u8]| {
            let mut digest = Digest::new(kind, text.len() as u64);
            text.chunks(3).for_each(|bytes| digest.update(bytes));
            digest.value()
        };
        let git = Some(DigestKind::GitBlob);
        assert_eq!(digest(git, b"hello\n").as_deref(), Some("ce013625030ba8dba906f756967f9e9ca394464a"));
        assert_eq!(digest(git, b"").as_deref(), Some("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"));
        let sha = digest(Some(DigestKind::Sha256), b"hello\n");
        assert_eq!(sha.as_deref(), Some("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"));
        assert_eq!(digest(None, b"hello\n"), None);
    }

    #[test]
    fn kinds_of_etags() {
        assert_eq!(DigestKind::of(&"0aF".repeat(22)[..64]), Some(DigestKind::Sha256));
        assert_eq!(DigestKind::of(&"9b".repeat(20)), Some(DigestKind::GitBlob));
        for etag in ["", "d41d8cd98f00b204e9800998ecf8427e", &"x".repeat(40), &"é".repeat(32)] {
            assert_eq!(DigestKind::of(etag), None, "{etag}");
        }
    }
}
