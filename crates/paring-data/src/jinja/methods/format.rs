//! Python's format specifications: `{:>8.2f}`.

use crate::jinja::fault::{Made, Meter, fault};
use crate::jinja::text::Text;
use crate::jinja::value::{Value, float_text};

/// Digits after the point at most.
const DIGITS: usize = 1000;

/// A specification: `[[fill]align][sign][#][0][width][grouping][.precision][type]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Spec {
    pub fill: Option<char>,
    pub align: Option<char>,
    pub sign: Option<char>,
    pub alternate: bool,
    pub width: usize,
    pub grouping: Option<char>,
    pub precision: Option<usize>,
    pub kind: Option<char>,
}

impl Spec {
    fn parse(text: &str) -> Option<Self> {
        let mut spec = Self::default();
        let mut rest = text;
        let is_align = |c: &char| matches!(c, '<' | '>' | '^' | '=');
        let mut chars = text.chars();
        let (first, second) = (chars.next(), chars.next());
        if let Some(align) = second.filter(is_align) {
            (spec.fill, spec.align) = (first, Some(align));
            rest = chars.as_str();
        } else if let Some(align) = first.filter(is_align) {
            spec.align = Some(align);
            rest = &text[1..];
        }
        spec.sign = take(&mut rest, &['+', '-', ' ']);
        spec.alternate = take(&mut rest, &['#']).is_some();
        if take(&mut rest, &['0']).is_some() {
            spec.fill = spec.fill.or(Some('0'));
            spec.align = spec.align.or(Some('='));
        }
        spec.width = number(&mut rest)?.unwrap_or(0);
        spec.grouping = take(&mut rest, &[',', '_']);
        if take(&mut rest, &['.']).is_some() {
            spec.precision = Some(number(&mut rest)??);
        }
        let mut rest = rest.chars();
        spec.kind = rest.next();
        rest.next().is_none().then_some(spec)
    }

    /// Writes a number with its sign, digits and what stands before them.
    fn padded(&self, out: &mut Text, sign: &str, body: &str, align: char) -> Made<()> {
        let len = sign.chars().count() + body.chars().count();
        let missing = self.width.saturating_sub(len);
        let mut fill = [0; 4];
        let fill = &*self.fill.unwrap_or(' ').encode_utf8(&mut fill);
        let align = self.align.unwrap_or(align);
        let before = match align {
            '<' => 0,
            '^' => missing / 2,
            _ => missing,
        };
        if align == '=' {
            out.push(sign)?;
            out.repeat(fill, missing)?;
        } else {
            out.repeat(fill, before)?;
            out.push(sign)?;
        }
        out.push(body)?;
        if matches!(align, '<' | '^') { out.repeat(fill, missing - before) } else { Ok(()) }
    }

    fn sign(&self, is_negative: bool) -> &'static str {
        match self.sign {
            _ if is_negative => "-",
            Some('+') => "+",
            Some(' ') => " ",
            _ => "",
        }
    }

    /// Writes a text, cut to the precision.
    pub(super) fn text(&self, out: &mut Text, text: &str) -> Made<()> {
        let end = self.precision.and_then(|most| text.char_indices().nth(most)).map_or(text.len(), |(end, _)| end);
        self.padded(out, "", &text[..end], '<')
    }

    /// Writes an integer. Errors when the type is none of integers.
    pub(super) fn whole(&self, out: &mut Text, number: i128) -> Made<()> {
        let size = number.unsigned_abs();
        let (prefix, digits) = match self.kind {
            None | Some('d' | 'n') => ("", size.to_string()),
            Some('b') => ("0b", format!("{size:b}")),
            Some('o') => ("0o", format!("{size:o}")),
            Some('x') => ("0x", format!("{size:x}")),
            Some('X') => ("0X", format!("{size:X}")),
            Some('c') => {
                let c = u32::try_from(number).ok().and_then(char::from_u32);
                return match c {
                    Some(c) => self.padded(out, "", c.encode_utf8(&mut [0; 4]), '<'),
                    None => fault(format!("{number} is no character")),
                };
            }
            Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') => return self.float(out, number as f64),
            Some(other) => return fault(format!("unknown format code '{other}' for an integer")),
        };
        if self.precision.is_some() {
            return fault("a precision is not allowed for an integer");
        }
        let digits = self.grouped(&digits, if prefix.is_empty() { 3 } else { 4 })?;
        let sign = format!("{}{}", self.sign(number < 0), if self.alternate { prefix } else { "" });
        self.padded(out, &sign, &digits, '>')
    }

    fn grouped(&self, digits: &str, every: usize) -> Made<String> {
        let Some(separator) = self.grouping else { return Ok(digits.to_owned()) };
        if self.fill == Some('0') && self.align == Some('=') {
            return fault("zeros before a number with separators are not known here");
        }
        let whole = digits.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(digits.len());
        let mut made = String::new();
        for (i, c) in digits[..whole].chars().enumerate() {
            if i > 0 && (whole - i).is_multiple_of(every) {
                made.push(separator);
            }
            made.push(c);
        }
        Ok(made + &digits[whole..])
    }

    /// Writes a float. Errors when the type is none of floats.
    pub(super) fn float(&self, out: &mut Text, number: f64) -> Made<()> {
        let precision = self.precision.unwrap_or(6);
        if precision > DIGITS {
            return fault(format!("a precision of {precision}, expected at most {DIGITS}"));
        }
        let size = number.abs();
        let kind = self.kind.map(|kind| kind.to_ascii_lowercase());
        let mut body = match kind {
            _ if !number.is_finite() => float_text(size),
            Some('f') => format!("{size:.precision$}"),
            Some('%') => format!("{:.precision$}", size * 100.0),
            Some('e') => scientific(size, precision),
            Some('g' | 'n') => self.general(size, precision.max(1), false),
            None if self.precision.is_some() => self.general(size, precision.max(1), true),
            None => float_text(size),
            Some(other) => return fault(format!("unknown format code '{other}' for a float")),
        };
        if self.alternate && kind != Some('g') && !body.contains('.') {
            return fault("the format # of a float is not known here");
        }
        if self.kind.is_some_and(|kind| kind.is_ascii_uppercase()) {
            body = body.to_uppercase();
        }
        if number.is_finite() {
            body = self.grouped(&body, 3)?;
        }
        if self.kind == Some('%') {
            body.push('%');
        }
        self.padded(out, self.sign(number.is_sign_negative() && !number.is_nan()), &body, '>')
    }

    /// `g`: so many digits, without zeros at the end, and with a power of ten where the number is large or small.
    fn general(&self, size: f64, digits: usize, with_point: bool) -> String {
        let rounded = format!("{size:.*e}", digits - 1);
        let power: i32 = rounded.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0);
        let most = digits as i32 - i32::from(with_point);
        let trimmed = |text: &str| {
            let is_cut = text.contains('.') && !self.alternate;
            if is_cut { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
        };
        if (-4..most).contains(&power) {
            let places = usize::try_from(digits as i32 - 1 - power).unwrap_or(0);
            let plain = trimmed(&format!("{size:.places$}"));
            return if with_point && !plain.contains('.') { plain + ".0" } else { plain };
        }
        let text = scientific(size, digits - 1);
        match text.split_once('e') {
            Some((mantissa, power)) => format!("{}e{power}", trimmed(mantissa)),
            None => text,
        }
    }
}

/// `1.50e+07`.
fn scientific(size: f64, precision: usize) -> String {
    let text = format!("{size:.precision$e}");
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}

fn take(rest: &mut &str, among: &[char]) -> Option<char> {
    let first = rest.chars().next().filter(|c| among.contains(c))?;
    *rest = &rest[first.len_utf8()..];
    Some(first)
}

/// The digits at the start as a number, `Some(None)` without any; `None` when there are too many.
fn number(rest: &mut &str) -> Option<Option<usize>> {
    let len = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, after) = rest.split_at(len);
    *rest = after;
    if digits.is_empty() { Some(None) } else { digits.parse().ok().map(Some) }
}

/// Writes a value as `format(value, spec)` does.
pub(super) fn formatted(out: &mut Text, value: &Value, spec: &str, meter: &Meter) -> Made<()> {
    if spec.is_empty() {
        return out.push(&value.text(meter)?);
    }
    let Some(parsed) = Spec::parse(spec) else { return fault(format!("invalid format {spec:?}")) };
    match value {
        Value::Text(_) | Value::Undefined(_) => {
            let text = value.text(meter)?;
            let is_of_text = matches!(parsed.kind, None | Some('s')) && parsed.sign.is_none() && !parsed.alternate;
            if !is_of_text || parsed.grouping.is_some() || parsed.align == Some('=') {
                return fault(format!("invalid format {spec:?} for text"));
            }
            parsed.text(out, &text)
        }
        Value::Float(number) => parsed.float(out, *number),
        other => match other.whole() {
            Some(number) => parsed.whole(out, number),
            None => fault(format!("unsupported format {spec:?} for a {}", other.kind())),
        },
    }
}
