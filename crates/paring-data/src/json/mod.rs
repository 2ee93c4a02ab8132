//! JSON as Python writes it, walked through without allocating: NaN and infinities are numbers, and what is wrong has a
//! reason.

#[cfg(test)]
mod tests;

/// Depth of lists and objects at most.
const MAX_DEPTH: u32 = 128;

/// Beginnings of what is no JSON, and the reason that they name.
const HINTS: [(&str, &str); 12] = [
    ("'", "single quotes, as Python prints them; JSON has double ones"),
    ("True", "True, as Python prints it; JSON has true"),
    ("False", "False, as Python prints it; JSON has false"),
    ("None", "None, as Python prints it; JSON has null"),
    ("//", "a comment, which JSON does not have"),
    ("/*", "a comment, which JSON does not have"),
    ("#", "a comment, which JSON does not have"),
    ("<", "markup: is it a web page?"),
    ("version https://git-lfs", "a pointer of git LFS in place of the file: git lfs pull fetches it"),
    ("\u{feff}", "a byte order mark in the middle of the file: were files joined?"),
    ("\u{201c}", "typographic quotes; JSON has straight ones"),
    ("\u{201d}", "typographic quotes; JSON has straight ones"),
];

/// Something that is no JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The byte where that shows.
    pub at: usize,
    /// The reason.
    pub reason: String,
}

/// The kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Truth,
    Number,
    /// `NaN`, `Infinity` or `-Infinity`.
    NonFinite(&'static str),
    Text,
    List,
    Object,
}

impl Kind {
    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Truth => "a truth value",
            Kind::Number => "a number",
            Kind::NonFinite(name) => name,
            Kind::Text => "text",
            Kind::List => "a list",
            Kind::Object => "an object",
        }
    }
}

/// A place in a text of JSON.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// The last NaN or infinity, and its byte.
    non_finite: Option<(usize, &'static str)>,
}

impl<'a> Scanner<'a> {
    /// The beginning of a text.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, non_finite: None }
    }

    /// The byte that comes next after spaces, which is not taken; `None` at the end.
    pub fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// The place of that byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The first NaN or infinity from a byte on, if the last one is not before it.
    pub fn non_finite_from(&self, start: usize) -> Option<(usize, &'static str)> {
        self.non_finite.filter(|&(at, _)| at >= start)
    }

    fn wrong(&self, reason: impl Into<String>) -> Wrong {
        Wrong { at: self.at, reason: reason.into() }
    }

    /// The error that something else is here.
    fn unexpected(&self, expected: &str) -> Wrong {
        let rest = &self.text[self.at..];
        if rest.is_empty() {
            return self.wrong(format!("it ends where {expected} should be: was it cut off?"));
        }
        if let Some((_, reason)) = HINTS.iter().find(|(start, _)| rest.starts_with(start)) {
            return self.wrong(*reason);
        }
        let word: String = rest.chars().take_while(|c| c.is_alphanumeric()).take(16).collect();
        let found = if word.is_empty() { rest.chars().take(1).collect() } else { word };
        self.wrong(format!("expected {expected}, got {found:?}"))
    }

    /// Takes one byte.
    fn take(&mut self, byte: u8, expected: &str) -> Result<(), Wrong> {
        if self.peek() != Some(byte) {
            return Err(self.unexpected(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// An error unless nothing follows.
    pub fn end(&mut self) -> Result<(), Wrong> {
        match self.peek() {
            None => Ok(()),
            Some(b',') => Err(self.wrong("a comma after the object; each line is an object of its own")),
            Some(b'{') => Err(self.wrong("a second object on the line; expected one a line")),
            Some(_) => Err(self.unexpected("the end of the line")),
        }
    }

    /// Takes a value, `depth` lists and objects deep.
    pub fn value(&mut self, depth: u32) -> Result<Kind, Wrong> {
        let Some(first) = self.peek() else { return Err(self.unexpected("a value")) };
        match first {
            b'"' => self.string().map(|_| Kind::Text),
            b'{' => self.object(depth, &mut |scanner, _| scanner.value(depth + 1).map(drop)).map(|()| Kind::Object),
            b'[' => self.list(depth).map(|()| Kind::List),
            b'-' | b'0'..=b'9' | b'N' | b'I' | b't' | b'f' | b'n' => self.word(),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn word(&mut self) -> Result<Kind, Wrong> {
        let words = [
            ("null", Kind::Null),
            ("true", Kind::Truth),
            ("false", Kind::Truth),
            ("NaN", Kind::NonFinite("NaN")),
            ("Infinity", Kind::NonFinite("Infinity")),
            ("-Infinity", Kind::NonFinite("-Infinity")),
        ];
        let rest = &self.text[self.at..];
        let end =
            rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '+' | '.' | '_'))).unwrap_or(rest.len());
        let word = &rest[..end];
        let kind = match words.iter().find(|(name, _)| *name == word) {
            Some((_, kind)) => *kind,
            None if is_number(word) => Kind::Number,
            None => return Err(self.unexpected("a value")),
        };
        if let Kind::NonFinite(name) = kind {
            self.non_finite = Some((self.at, name));
        }
        self.at += end;
        Ok(kind)
    }

    /// Takes a string, and returns it with its quotes as it is written.
    pub fn string(&mut self) -> Result<&'a str, Wrong> {
        let (start, bytes) = (self.at, self.text.as_bytes());
        self.at += 1;
        loop {
            match bytes.get(self.at) {
                None => return Err(self.wrong("it ends in the middle of a text: was it cut off?")),
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(b'\n' | b'\r') => return Err(self.wrong("a line end inside a text, where JSON has \\n")),
                Some(b'\t') => return Err(self.wrong("a tab inside a text, where JSON has \\t")),
                Some(0..0x20) => return Err(self.wrong("a control character inside a text")),
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(&self.text[start..self.at])
    }

    fn escape(&mut self) -> Result<(), Wrong> {
        let after = &self.text.as_bytes()[self.at + 1..];
        self.at += match after {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => 6,
            _ => {
                let found: String = self.text[self.at..].chars().take(2).collect();
                return Err(
                    self.wrong(format!("{found} inside a text, which is no escape of JSON; a backslash is \\\\"))
                );
            }
        };
        Ok(())
    }

    fn deeper(&self, depth: u32) -> Result<(), Wrong> {
        if depth < MAX_DEPTH {
            Ok(())
        } else {
            Err(self.wrong(format!("lists and objects more than {MAX_DEPTH} deep")))
        }
    }

    fn list(&mut self, depth: u32) -> Result<(), Wrong> {
        self.deeper(depth)?;
        self.at += 1;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.unexpected("a comma or ]")),
            }
            if self.peek() == Some(b']') {
                return Err(self.wrong("a comma before ], after which JSON wants another value"));
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Takes an object; `member` takes the value of each key, which comes as it is written.
    pub fn object(
        &mut self,
        depth: u32,
        member: &mut dyn FnMut(&mut Self, &'a str) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        self.deeper(depth)?;
        self.at += 1;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("the name of a field in double quotes"));
            }
            let key = self.string()?;
            self.take(b':', "a colon after the name of a field")?;
            member(self, key)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.unexpected("a comma or }")),
            }
            if self.peek() == Some(b'}') {
                return Err(self.wrong("a comma before }, after which JSON wants another field"));
            }
        }
        self.at += 1;
        Ok(())
    }
}

/// `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`
fn is_number(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let word = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = match word.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (word, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole) && (whole == "0" || !whole.starts_with('0')) && [fraction, exponent].into_iter().flatten().all(digits)
}

/// True where a key, as it is written, is this name.
pub(super) fn is_named(key: &str, name: &str) -> bool {
    let inside = &key[1..key.len() - 1];
    inside == name || (inside.contains('\\') && serde_json::from_str::<String>(key).is_ok_and(|key| key == name))
}
