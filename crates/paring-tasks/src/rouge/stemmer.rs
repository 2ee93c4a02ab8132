//! Porter's stemmer in NLTK's default mode, which ROUGE's scorer uses.
//!
//! It is the algorithm of M. F. Porter, "An algorithm for suffix stripping", Program 14 (1980), section 2, with NLTK's
//! differences: exceptions come first, words of two letters stay, `ies` and `ied` of four letters keep their `ie`, a stem of a
//! vowel and a consonant ends short, and `bli`, `fulli`, `alli` and `logi` follow Porter's own later program. Snowball's
//! stemmers are others: theirs makes `quick` of `quickly`, where NLTK has `quickli`.

/// Words whose stems follow no rule.
const EXCEPTIONS: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// Suffixes and what replaces them. The first that fits decides, even where its condition then fails.
type Rules = [(&'static str, &'static str)];

const STEP_2: &Rules = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: &Rules =
    &[("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];

const STEP_4: [&str; 19] = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
];

/// The stem of a word of lower-case letters and digits of ASCII. Other words are returned as they are.
pub fn stem(word: &str) -> String {
    let mut stem = word.to_owned();
    if word.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) {
        reduce(&mut stem);
    }
    stem
}

/// Makes a word of ASCII its stem.
pub(super) fn reduce(word: &mut String) {
    if let Some((_, stem)) = EXCEPTIONS.iter().find(|(exception, _)| exception == word) {
        word.replace_range(.., stem);
        return;
    }
    if word.len() <= 2 {
        return;
    }
    plurals(word);
    participles(word);
    // Step 1c.
    if word.len() > 2 && word.ends_with('y') && ends_in_consonant(&word[..word.len() - 1]) {
        replace_end(word, 1, "i");
    }
    doubled_suffixes(word);
    by_rules(word, STEP_3);
    // Step 4.
    if let Some(suffix) = STEP_4.into_iter().find(|suffix| word.ends_with(suffix)) {
        let rest = &word[..word.len() - suffix.len()];
        if measure(rest) > 1 && (suffix != "ion" || rest.ends_with(['s', 't'])) {
            replace_end(word, suffix.len(), "");
        }
    }
    // Step 5.
    if let Some(rest) = word.strip_suffix('e') {
        let vowels = measure(rest);
        if vowels > 1 || (vowels == 1 && !ends_short(rest)) {
            replace_end(word, 1, "");
        }
    }
    if word.ends_with("ll") && measure(&word[..word.len() - 1]) > 1 {
        replace_end(word, 1, "");
    }
}

/// Step 1a.
fn plurals(word: &mut String) {
    if word.ends_with("ies") {
        shorten_ie(word);
    } else if word.ends_with("sses") {
        replace_end(word, 2, "");
    } else if word.ends_with('s') && !word.ends_with("ss") {
        replace_end(word, 1, "");
    }
}

/// `ies` or `ied` → `ie` in a word of four letters, otherwise `i`.
fn shorten_ie(word: &mut String) {
    replace_end(word, if word.len() == 4 { 1 } else { 2 }, "");
}

/// Step 1b.
fn participles(word: &mut String) {
    if word.ends_with("ied") {
        return shorten_ie(word);
    }
    if let Some(rest) = word.strip_suffix("eed") {
        if measure(rest) > 0 {
            replace_end(word, 1, "");
        }
        return;
    }
    let fits = |suffix: &&str| word.strip_suffix(*suffix).is_some_and(|rest| !consonants(rest).all(|is| is));
    let Some(suffix) = ["ed", "ing"].into_iter().find(fits) else { return };
    replace_end(word, suffix.len(), "");
    if ["at", "bl", "iz"].iter().any(|end| word.ends_with(end)) {
        word.push('e');
    } else if ends_in_double(word) {
        if !word.ends_with(['l', 's', 'z']) {
            replace_end(word, 1, "");
        }
    } else if measure(word) == 1 && ends_short(word) {
        word.push('e');
    }
}

/// Step 2.
fn doubled_suffixes(word: &mut String) {
    if word.strip_suffix("alli").is_some_and(|rest| measure(rest) > 0) {
        replace_end(word, 2, "");
    }
    // The l of `logi` counts.
    if !by_rules(word, STEP_2) && word.ends_with("logi") && measure(&word[..word.len() - 3]) > 0 {
        replace_end(word, 1, "");
    }
}

/// Replaces the first suffix that fits if there is a vowel and a consonant before it; true if one fits.
fn by_rules(word: &mut String, rules: &Rules) -> bool {
    let Some((suffix, new)) = rules.iter().find(|(suffix, _)| word.ends_with(suffix)) else { return false };
    if measure(&word[..word.len() - suffix.len()]) > 0 {
        replace_end(word, suffix.len(), new);
    }
    true
}

fn replace_end(word: &mut String, letters: usize, new: &str) {
    word.truncate(word.len() - letters);
    word.push_str(new);
}

/// True for each consonant. A y is a vowel after a consonant.
fn consonants(word: &str) -> impl Iterator<Item = bool> {
    let mut is_consonant = false;
    word.bytes().map(move |letter| {
        is_consonant = match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => !is_consonant,
            _ => true,
        };
        is_consonant
    })
}

fn ends_in_consonant(word: &str) -> bool {
    consonants(word).last() == Some(true)
}

/// Number of changes from a vowel to a consonant: Porter's m.
fn measure(word: &str) -> usize {
    consonants(word).zip(consonants(word).skip(1)).filter(|(before, after)| !before && *after).count()
}

/// True if a word ends in a consonant, a vowel and a consonant other than w, x and y, or is a vowel and a consonant.
fn ends_short(word: &str) -> bool {
    let ends = consonants(word).skip(word.len().saturating_sub(3));
    match ends.collect::<Vec<bool>>()[..] {
        [first, second] => !first && second,
        [first, second, third] => first && !second && third && !word.ends_with(['w', 'x', 'y']),
        _ => false,
    }
}

fn ends_in_double(word: &str) -> bool {
    matches!(word.as_bytes(), [.., before, last] if before == last) && ends_in_consonant(word)
}
