//! English text → sentences, for rougeLsum.
//!
//! The scripts of papers split with NLTK's Punkt (T. Kiss and J. Strunk, "Unsupervised multilingual sentence boundary detection",
//! 2006), whose tables of abbreviations, of words that begin sentences and of how words are written were counted on English
//! newspapers. These rules have Punkt's form with short lists of ours in the place of its tables, so that some sentences end elsewhere:
//! what is split by them is approximate.
//!
//! * A sentence ends after `.`, `?` or `!`, or several of them, and the quotes and brackets that close after it, before white
//!   space.
//! * A full stop ends none after an abbreviation, the initial of a name or letters with stops between them (`U.S.`), unless the next word
//!   often begins sentences (`The`).
//! * After a number it ends none before a lower-case letter, nor do several stops: `1. then`, `well ... then`.

/// Quotes and brackets that belong to the sentence before them.
const CLOSING: [char; 8] = ['"', '\'', ')', ']', '}', '”', '’', '»'];
/// Those before a word.
const OPENING: [char; 9] = ['"', '\'', '(', '[', '{', '“', '‘', '«', '`'];

/// Words with a full stop, without it: titles, companies, months, places, units and notes.
const ABBREVIATIONS: [&str; 83] = [
    "adm", "ala", "approx", "apr", "ariz", "assn", "aug", "ave", "bldg", "blvd", "bros", "calif", "capt", "cf", "cmdr",
    "co", "col", "colo", "conn", "corp", "cpl", "cpt", "dec", "dept", "dr", "etc", "feb", "fla", "ft", "ga", "gen",
    "gov", "hon", "hwy", "inc", "insp", "jan", "jr", "kan", "ky", "lt", "ltd", "maj", "mich", "minn", "mlle", "mme",
    "mo", "mr", "mrs", "ms", "msgr", "mt", "neb", "nev", "nov", "oct", "okla", "ore", "penn", "pfc", "ph.d", "prof",
    "pte", "pvt", "rd", "rep", "reps", "rev", "sen", "sens", "sept", "sgt", "sr", "st", "ste", "supt", "tenn", "tex",
    "v", "va", "vs", "vt",
];

/// Words that often begin sentences, and are seldom names.
const BEGINNINGS: &str = "A According After All Although An And Another Are As At Because Before Both But By Despite Did Do Does \
    During Each Even For From Had Has Have He Her Here His How However I If In Instead Is It Its Many Meanwhile \
    More Most My No Not Now On Or Other Others Our She Since So Some That The Their Then There These They This \
    Those To We What When While With You";

/// The sentences of a text, without the white space between them; line breaks inside of them stay.
pub fn sentences(text: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let (mut begin, mut at) = (0, 0);
    while let Some(found) = text[at..].find(is_end) {
        let stop = at + found;
        let stops = leading(&text[stop..], is_end);
        let closed = stop + stops + leading(&text[stop + stops..], |c| CLOSING.contains(&c));
        let rest = &text[closed..];
        at = closed;
        let next = rest.trim_start();
        if next.len() < rest.len() && !next.is_empty() && ends(&text[begin..stop], &text[stop..stop + stops], next) {
            sentences.push(text[begin..closed].trim());
            begin = text.len() - next.len();
            at = begin;
        }
    }
    sentences.push(text[begin..].trim());
    sentences.retain(|sentence| !sentence.is_empty());
    sentences
}

/// The text with a line break between its sentences.
pub fn in_lines(text: &str) -> String {
    sentences(text).join("\n")
}

fn is_end(c: char) -> bool {
    matches!(c, '.' | '?' | '!')
}

/// Bytes of the characters at the beginning of a text that are of a kind.
fn leading(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is(c)).unwrap_or(text.len())
}

/// True if these stops end a sentence, after `before` and before `next`.
fn ends(before: &str, stops: &str, next: &str) -> bool {
    let next = next.trim_start_matches(OPENING);
    let begins = &next[..leading(next, char::is_alphanumeric)];
    if stops != "." {
        // Question and exclamation marks always do.
        return stops.contains(['?', '!']) || !starts_lower(next);
    }
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default().trim_start_matches(OPENING);
    if is_number(word) {
        return !starts_lower(next);
    }
    !is_abbreviated(word) || BEGINNINGS.split(' ').any(|word| word == begins)
}

fn starts_lower(text: &str) -> bool {
    text.starts_with(char::is_lowercase)
}

/// True of digits with signs between them: `12`, `3.5`, `1,000`, `$20`.
fn is_number(word: &str) -> bool {
    word.ends_with(|c: char| c.is_ascii_digit()) && !word.contains(char::is_alphabetic)
}

/// True of an abbreviation or an initial, whose full stop is left out.
fn is_abbreviated(word: &str) -> bool {
    let word = word.to_lowercase();
    let last = word.rsplit('-').next().unwrap_or_default();
    let is_letter = |part: &str| part.chars().count() == 1 && part.starts_with(char::is_alphabetic);
    ABBREVIATIONS.contains(&last) || last.split('.').all(is_letter)
}
