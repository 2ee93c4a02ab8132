//! Tests of the generator; they read its text back with a recogniser of their own.

use super::*;

/// Recognises the language with one word of lookahead and checks every agreement on the way.  That this succeeds
/// on generated text also shows that the grammar is unambiguous.
struct Reader<'a> {
    words: Vec<&'a str>,
    at: usize,
    /// Deepest brackets and deepest relative clauses seen.
    deepest: (usize, usize),
}

fn find(list: &[String], word: &str) -> Option<usize> {
    list.iter().position(|w| w == word)
}

fn find_form(list: &[Vec<String>], word: &str) -> Option<(usize, usize)> {
    list.iter().enumerate().find_map(|(i, forms)| find(forms, word).map(|form| (i, form)))
}

impl<'a> Reader<'a> {
    fn peek(&self) -> &'a str {
        self.words.get(self.at).copied().unwrap_or("")
    }

    fn take(&mut self, list: &[String]) -> Option<usize> {
        let found = find(list, self.peek());
        self.at += usize::from(found.is_some());
        found
    }

    fn expect(&mut self, word: &str) {
        assert_eq!(self.peek(), word, "at word {} of {}", self.at, self.words.join(" "));
        self.at += 1;
    }

    fn paragraph(&mut self) {
        let l = lexicon();
        let head = self.words[..4].to_vec();
        self.at = 4;
        assert!(find(&l.registers, head[0]).is_some() && find(&l.places, head[3]).is_some());
        while self.peek() != l.coda {
            self.sentence(&head, 0);
            self.expect(";");
        }
        self.expect(&l.coda);
        head.iter().rev().for_each(|w| self.expect(w));
        self.expect(".");
        assert_eq!(self.at, self.words.len());
    }

    fn sentence(&mut self, head: &[&str], depth: usize) {
        let l = lexicon();
        self.deepest.0 = self.deepest.0.max(depth);
        loop {
            if self.words.get(self.at + 1).is_some_and(|w| find(&l.speech, w).is_some()) {
                assert!(head[1..3].contains(&self.peek()));
                self.at += 3;
                let kind = OPEN.iter().position(|o| *o == self.words[self.at - 1]).expect("speech opens a bracket");
                self.sentence(head, depth + 1);
                self.expect(CLOSE[kind]);
            } else {
                let number = match self.take(&l.pronouns) {
                    Some(pronoun) => pronoun % 2,
                    None => self.nominal(head, 0),
                };
                self.predicate(head, number, 0);
            }
            if self.take(&l.joiners).is_none() {
                return;
            }
        }
    }

    fn verb(&mut self, number: usize) -> usize {
        let (verb, form) = find_form(&lexicon().verbs, self.peek()).expect("a verb");
        assert_eq!(form, number, "{} in {}", self.peek(), self.words.join(" "));
        self.at += 1;
        lexicon().valency[verb]
    }

    fn predicate(&mut self, head: &[&str], number: usize, nesting: usize) {
        let l = lexicon();
        match self.verb(number) {
            0 => {}
            1 => drop(self.nominal(head, nesting + 1)),
            _ => assert!(self.take(&l.prepositions).is_some() && self.take(&l.places).is_some()),
        }
        self.take(&l.adverbs);
    }

    /// A name of the paragraph or a noun phrase; returns its number.
    fn nominal(&mut self, head: &[&str], nesting: usize) -> usize {
        let l = lexicon();
        self.deepest.1 = self.deepest.1.max(nesting);
        if head[1..3].contains(&self.peek()) {
            self.at += 1;
            return 0;
        }
        let number = self.take(&l.articles).expect("an article") % 2;
        let (noun, form) = find_form(&l.nouns, self.peek()).expect("a noun");
        assert_eq!(form, number, "{}", self.peek());
        self.at += 1;
        if let Some((_, class)) = find_form(&l.adjectives, self.peek()) {
            assert_eq!(class, l.class[noun]);
            self.at += 1;
        }
        if let Some(class) = self.take(&l.relatives) {
            assert_eq!(class, l.class[noun]);
            if find_form(&l.verbs, self.peek()).is_some() {
                self.predicate(head, number, nesting);
            } else {
                let inner = self.nominal(head, nesting + 1);
                assert_eq!(self.verb(inner), 1, "only verbs with an object leave it out");
            }
            self.expect(",");
        }
        number
    }
}

#[test]
fn grammar_and_agreement_hold() {
    let mut deepest = (0, 0);
    for line in sample(11, 30_000).text.lines() {
        let mut reader = Reader { words: line.split(' ').collect(), at: 0, deepest };
        reader.paragraph();
        deepest = reader.deepest;
    }
    assert_eq!(deepest, (3, 3), "nesting goes as deep as it may");
}

#[test]
fn text_is_the_same_everywhere() {
    // FNV-1a of the text: a change of the language makes the trained model useless, so it must not pass unnoticed.
    let hash = |text: &str| {
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
    };
    let text = sample(7, 5000).text;
    assert_eq!(text, sample(7, 5000).text);
    assert_eq!(hash(&text), 5_083_810_169_640_484_444);
    assert_eq!(hash(&vocabulary().join(" ")), 14_125_339_196_367_687_706);
    assert_ne!(text, sample(8, 5000).text);
}

#[test]
fn brackets_close_in_order() {
    let text = sample(12, 20_000).text;
    let mut open = Vec::new();
    for word in text.split_whitespace() {
        if let Some(kind) = OPEN.iter().position(|w| *w == word) {
            open.push(kind);
        } else if let Some(kind) = CLOSE.iter().position(|w| *w == word) {
            assert_eq!(open.pop(), Some(kind));
        }
    }
    assert!(open.is_empty());
}

#[test]
fn vocabulary_covers_the_text_and_is_skewed() {
    let words = vocabulary();
    let known: BTreeSet<&str> = words.iter().map(String::as_str).collect();
    assert_eq!((words.len(), known.len()), (638, 638));
    let sample = sample(13, 300_000);
    let mut counts = std::collections::BTreeMap::new();
    for word in sample.text.split_whitespace() {
        assert!(known.contains(word), "{word}");
        *counts.entry(word).or_insert(0_usize) += 1;
    }
    assert!(counts.len() + 8 > words.len(), "even the rarest words are in use");
    assert_eq!(counts.values().sum::<usize>(), sample.words);
    let mut nouns: Vec<usize> =
        lexicon().nouns.iter().map(|forms| forms.iter().map(|f| counts.get(f.as_str()).unwrap_or(&0)).sum()).collect();
    nouns.sort_unstable();
    let common: usize = nouns[NOUNS - NOUNS / 10..].iter().sum();
    assert!(
        common * 4 > nouns.iter().sum::<usize>(),
        "a tenth of the nouns makes up more than a quarter of their uses"
    );
}

#[test]
fn information_is_counted() {
    let sample = sample(14, 300_000);
    let rate = sample.nats / sample.words as f64;
    assert!((1.38..1.45).contains(&rate), "{rate}");
    // The information of a text cannot exceed that of as many words drawn one by one from the vocabulary.
    assert!(rate < (vocabulary().len() as f64).ln());
}
