//! Source → tokens, with the whitespace control that transformers asks of Jinja: `trim_blocks` and `lstrip_blocks`.

use super::Fault;
use super::text::is_space;

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Text between tags.
    Data(String),
    BlockBegin,
    BlockEnd,
    PrintBegin,
    PrintEnd,
    Name(String),
    Text(String),
    Int(i128),
    Float(f64),
    /// One of [`OPERATORS`].
    Operator(&'static str),
    End,
}

/// Longer ones first.
const OPERATORS: [&str; 27] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",", ";", "!",
];

/// All tokens of a template, with the numbers of their lines.
pub(super) fn tokens(source: &str) -> Result<Vec<(Token, usize)>, Fault> {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer { source: &source, at: 0, line: 1, counted: 0, starts_line: true, made: Vec::new() };
    lexer.run()?;
    lexer.push(Token::End);
    Ok(lexer.made)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    /// The line of the byte `counted`.
    line: usize,
    counted: usize,
    /// The last tag ended with its line.
    starts_line: bool,
    made: Vec<(Token, usize)>,
}

/// The end of a tag, with what it takes along.
const BLOCK_END: &str = "%}";
const PRINT_END: &str = "}}";
const COMMENT_END: &str = "#}";

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn push(&mut self, token: Token) {
        self.line += self.source[self.counted..self.at].matches('\n').count();
        self.counted = self.at;
        self.made.push((token, self.line));
    }

    fn wrong(&mut self, text: impl Into<String>) -> Fault {
        let line = self.line + self.source[self.counted..self.at].matches('\n').count();
        Fault::syntax(text, line)
    }

    fn spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(is_space).len();
    }

    fn run(&mut self) -> Result<(), Fault> {
        loop {
            let rest = self.rest();
            let tag =
                rest.match_indices('{').find(|(i, _)| matches!(rest.as_bytes().get(i + 1), Some(b'{' | b'%' | b'#')));
            let Some((start, _)) = tag else {
                if !rest.is_empty() {
                    self.push(Token::Data(rest.to_owned()));
                    self.at = self.source.len();
                }
                return Ok(());
            };
            let kind = rest.as_bytes()[start + 1];
            let sign = rest.as_bytes().get(start + 2).copied().filter(|c| matches!(c, b'-' | b'+'));
            self.data(&rest[..start], sign, kind != b'{');
            self.at += start + 2 + usize::from(sign.is_some());
            match kind {
                b'#' => self.comment()?,
                b'%' if self.raw()? => {}
                b'%' => {
                    self.push(Token::BlockBegin);
                    self.tag(BLOCK_END, Token::BlockEnd)?;
                }
                _ => {
                    self.push(Token::PrintBegin);
                    self.tag(PRINT_END, Token::PrintEnd)?;
                }
            }
        }
    }

    /// Text before a tag, of which the tag's sign or its place in the line takes the spaces.
    fn data(&mut self, text: &str, sign: Option<u8>, is_block: bool) {
        let line = text.rfind('\n').map_or(0, |i| i + 1);
        let kept = match sign {
            Some(b'-') => text.trim_end_matches(is_space),
            None if is_block && (line > 0 || self.starts_line) && text[line..].chars().all(is_space) => &text[..line],
            _ => text,
        };
        if !kept.is_empty() {
            self.push(Token::Data(kept.to_owned()));
        }
    }

    /// Steps over the end of a tag if it is here: `-` takes all spaces after it, and the tag of a block one line end.
    fn ends(&mut self, end: &str) -> bool {
        let rest = self.rest();
        let begin = self.at;
        if rest.starts_with('-') && rest[1..].starts_with(end) {
            self.at += 1 + end.len();
            self.spaces();
        } else if end != PRINT_END && rest.starts_with('+') && rest[1..].starts_with(end) {
            self.at += 1 + end.len();
        } else if rest.starts_with(end) {
            self.at += end.len();
            if end != PRINT_END && self.rest().starts_with('\n') {
                self.at += 1;
            }
        } else {
            return false;
        }
        self.starts_line = self.source[begin..self.at].ends_with('\n');
        true
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let Some(end) = self.rest().find(COMMENT_END) else { return Err(self.wrong("a comment has no end")) };
        let signed = end > 0 && matches!(self.rest().as_bytes()[end - 1], b'-' | b'+');
        self.at += end - usize::from(signed);
        self.ends(COMMENT_END);
        Ok(())
    }

    /// Reads `{% raw %}` and all up to its end, if this is it; `at` is after the sign.
    fn raw(&mut self) -> Result<bool, Fault> {
        let begin = self.at;
        self.spaces();
        let Some(rest) = self.rest().strip_prefix("raw") else {
            self.at = begin;
            return Ok(false);
        };
        self.at = self.source.len() - rest.len();
        self.spaces();
        let plain = self.rest().starts_with(BLOCK_END);
        if !plain && !self.rest().starts_with("-%}") {
            self.at = begin;
            return Ok(false);
        }
        if plain {
            // The line end after this tag stays.
            self.at += BLOCK_END.len();
            self.starts_line = false;
        } else {
            self.ends(BLOCK_END);
        }
        let begin = self.at;
        while let Some(next) = self.rest().find("{%") {
            let start = self.at + next;
            self.at = start + 2;
            let sign = self.rest().bytes().next().filter(|c| matches!(c, b'-' | b'+'));
            self.at += usize::from(sign.is_some());
            self.spaces();
            if let Some(rest) = self.rest().strip_prefix("endraw") {
                self.at = self.source.len() - rest.len();
                self.spaces();
                let starts_line = self.starts_line;
                if self.ends(BLOCK_END) {
                    let (end, after) = (self.at, std::mem::replace(&mut self.starts_line, starts_line));
                    self.at = start;
                    self.data(&self.source[begin..start], sign, true);
                    (self.at, self.starts_line) = (end, after);
                    return Ok(true);
                }
            }
            self.at = start + 2;
        }
        Err(self.wrong("raw has no end"))
    }

    /// The tokens of a tag, up to its end.
    fn tag(&mut self, end: &'static str, token: Token) -> Result<(), Fault> {
        let mut open: Vec<&'static str> = Vec::new();
        loop {
            self.spaces();
            if open.is_empty() && self.ends(end) {
                self.push(token);
                return Ok(());
            }
            let Some(first) = self.rest().chars().next() else { return Err(self.wrong(format!("expected {end}"))) };
            if first.is_ascii_digit() {
                self.number()?;
            } else if first.is_alphanumeric() || first == '_' {
                let rest = self.rest();
                let name = &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())];
                self.at += name.len();
                self.push(Token::Name(name.to_owned()));
            } else if matches!(first, '\'' | '"') {
                self.text(first)?;
            } else {
                self.operator(first, &mut open)?;
            }
        }
    }

    fn operator(&mut self, first: char, open: &mut Vec<&'static str>) -> Result<(), Fault> {
        let found = OPERATORS.iter().find(|operator| self.rest().starts_with(**operator)).copied();
        let Some(operator) = found.filter(|&operator| operator != "!") else {
            return Err(self.wrong(format!("unexpected {first:?}")));
        };
        match operator {
            "(" => open.push(")"),
            "[" => open.push("]"),
            "{" => open.push("}"),
            ")" | "]" | "}" if open.pop() != Some(operator) => {
                return Err(self.wrong(format!("unexpected {operator:?}")));
            }
            _ => {}
        }
        self.at += operator.len();
        self.push(Token::Operator(operator));
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        let after_dot = self.source[..self.at].ends_with('.');
        let digits = |text: &str| text.bytes().take_while(|c| c.is_ascii_digit() || *c == b'_').count();
        let radix = match rest.as_bytes().get(1).map(u8::to_ascii_lowercase) {
            Some(b'x') if rest.starts_with('0') => 16,
            Some(b'o') if rest.starts_with('0') => 8,
            Some(b'b') if rest.starts_with('0') => 2,
            _ => 10,
        };
        let mut len = digits(rest);
        let mut is_float = false;
        if radix != 10 {
            len = 2 + rest[2..].bytes().take_while(|c| (*c as char).is_digit(radix) || *c == b'_').count();
        } else if !after_dot {
            let fraction = rest[len..].strip_prefix('.').map_or(0, digits);
            if fraction > 0 {
                (len, is_float) = (len + 1 + fraction, true);
            }
            if let Some(power) = rest[len..].strip_prefix(['e', 'E']) {
                let sign = usize::from(power.starts_with(['+', '-']));
                let exponent = digits(&power[sign..]);
                if exponent > 0 {
                    (len, is_float) = (len + 1 + sign + exponent, true);
                }
            }
        }
        let text = rest[..len].replace('_', "");
        let token = if is_float {
            text.parse().ok().map(Token::Float)
        } else {
            let text = if radix == 10 { text.as_str() } else { &text[2..] };
            i128::from_str_radix(text, radix).ok().map(Token::Int)
        };
        let Some(token) = token else { return Err(self.wrong(format!("{text} cannot be used as a number"))) };
        self.at += len;
        self.push(token);
        Ok(())
    }

    fn text(&mut self, quote: char) -> Result<(), Fault> {
        let mut text = String::new();
        let mut rest = self.rest()[1..].chars();
        loop {
            match rest.next() {
                Some(c) if c == quote => break,
                Some('\\') => {
                    if let Err(reason) = escape(&mut rest, &mut text) {
                        return Err(self.wrong(reason));
                    }
                }
                Some(c) => text.push(c),
                None => return Err(self.wrong("a text has no end")),
            }
        }
        self.at = self.source.len() - rest.as_str().len();
        self.push(Token::Text(text));
        Ok(())
    }
}

/// The character after a backslash, as in a text of Python.
fn escape(rest: &mut std::str::Chars<'_>, text: &mut String) -> Result<(), String> {
    let c = match rest.clone().next() {
        Some('x') => numbered(rest, 2),
        Some('u') => numbered(rest, 4),
        Some('U') => numbered(rest, 8),
        Some('0'..='7') => {
            let octal = rest.as_str();
            let len = octal.bytes().take(3).take_while(|c| matches!(c, b'0'..=b'7')).count();
            rest.nth(len - 1);
            Ok(u32::from_str_radix(&octal[..len], 8).ok().and_then(char::from_u32).unwrap_or_default())
        }
        Some('N') => Err("characters by name are not known".into()),
        Some('\n') => {
            rest.next();
            return Ok(());
        }
        Some(c) => {
            rest.next();
            let known = match c {
                '\\' | '\'' | '"' => c,
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                other => {
                    text.push('\\');
                    other
                }
            };
            Ok(known)
        }
        None => Err("a text has no end".into()),
    }?;
    text.push(c);
    Ok(())
}

/// The character whose number the hexadecimal digits after a letter are.
fn numbered(rest: &mut std::str::Chars<'_>, digits: usize) -> Result<char, String> {
    rest.next();
    let code = rest.as_str().get(..digits).and_then(|code| u32::from_str_radix(code, 16).ok());
    let code = code.ok_or("an escape in a text lacks digits")?;
    rest.nth(digits - 1);
    char::from_u32(code).ok_or_else(|| format!("{code:x} is no character"))
}
