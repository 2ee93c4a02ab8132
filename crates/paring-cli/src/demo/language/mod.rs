//! The invented language of the demo corpus: a lexicon and a probabilistic grammar, both drawn from fixed seeds.
//!
//! A paragraph reads `REGISTER HERO COMPANION PLACE`, sentences that end in `;`, and a coda that names the same four
//! again in reverse.  Sentences have number agreement between subject and verb, class agreement between noun,
//! adjective, relative word and pronoun, nested relative clauses closed by `,`, and quoted speech in four kinds of
//! brackets.  Which word fills a slot follows tables drawn at random when the lexicon is built (the nouns of a hero's
//! story in one register, the verbs of a noun, the objects of a verb with one subject, ...): they follow no rule, so a
//! model has to keep them in its weights, which is what makes pruning and rounding show.
//!
//! Every choice has integer weights and leaves a trace in the text, so a text has exactly one derivation and the sum
//! of `-ln p` over the choices is its exact information content.

use std::collections::BTreeSet;
use std::sync::OnceLock;

const NOUNS: usize = 120;
const VERBS: usize = 72;
const ADJECTIVES: usize = 24;
const CLASSES: usize = 4;
const NAMES: usize = 52;
const PLACES: usize = 24;
const ADVERBS: usize = 28;
const REGISTERS: usize = 4;
const LEXICON_SEED: u64 = 0x7061_7269_6e67;
const OPEN: [&str; 4] = ["(", "[", "{", "<<"];
const CLOSE: [&str; 4] = [")", "]", "}", ">>"];

/// Text of the language together with its size and its exact information content.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Words separated by single spaces, one paragraph per line, without a final line break.
    pub text: String,
    /// Number of words, punctuation included; line breaks are not words.
    pub words: usize,
    /// Sum of `-ln p` over every choice the generator made, in nats.
    pub nats: f64,
}

/// Generates whole paragraphs until there are at least `words` words; the same seed always gives the same text.
pub fn sample(seed: u64, words: usize) -> Sample {
    let out = Sample { text: String::new(), words: 0, nats: 0.0 };
    // Two rounds, so that the streams of neighbouring seeds are not shifted copies of each other.
    let random = Random(Random(Random(seed).next()).next());
    let mut writer = Writer { random, setting: Setting::default(), last: None, out };
    while writer.out.words < words {
        if writer.out.words > 0 {
            writer.out.text.push('\n');
        }
        writer.paragraph();
    }
    writer.out
}

/// Every word the generator can write, in a fixed order: grammar words first, then the lexicon by part of speech.
pub fn vocabulary() -> Vec<String> {
    let l = lexicon();
    let marks = [",", ";", "."].iter().chain(&OPEN).chain(&CLOSE).map(|w| w.to_string());
    let grammar = [&l.registers, &l.articles, &l.relatives, &l.pronouns, &l.joiners, &l.prepositions];
    let plain = grammar.into_iter().chain([&l.names, &l.places, &l.speech, &l.adverbs]).flatten();
    let inflected = [&l.nouns, &l.verbs, &l.adjectives].into_iter().flatten().flatten();
    marks.chain([l.coda.clone()]).chain(plain.chain(inflected).cloned()).collect()
}

/// SplitMix64: one addition and a three-step mix per number, exact on every platform.
struct Random(u64);

impl Random {
    /// A stream of its own for every (purpose, row), so that changing one table leaves the others alone.
    fn keyed(purpose: u64, row: u64) -> Self {
        Random(Random(LEXICON_SEED ^ (purpose << 32)).next() ^ row.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform below `n` by the high half of a product; the bias is below 2^-40 for the totals used here.
    fn below(&mut self, n: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u32
    }

    fn weighted(&mut self, weights: &[u32]) -> usize {
        let target = self.below(weights.iter().sum());
        let sums = weights.iter().scan(0, |sum, w| Some(std::mem::replace(sum, *sum + w) + w));
        sums.take_while(|&sum| sum <= target).count()
    }
}

/// Rows of integer weights, one row per context.
type Table = Vec<Vec<u32>>;

/// For every row a skewed base over all `n` items plus a few strongly preferred ones.  The preferred items are drawn
/// with the skew too, so that common words stay common whatever the context.
fn table(purpose: u64, rows: usize, n: usize, preferred: &[u32]) -> Table {
    let row = |r| {
        let mut random = Random::keyed(purpose, r as u64);
        let base: Vec<u32> = (0..n as u32).map(|i| 6000 / (i + 5)).collect();
        let (mut out, mut open) = (base.clone(), (0..n as u32).map(|i| 60_000 / (i + 20)).collect::<Vec<_>>());
        // The preferred items share thirty times the mass of the base.
        let unit = 30 * base.iter().sum::<u32>() / preferred.iter().sum::<u32>();
        for p in preferred {
            let item = random.weighted(&open);
            open[item] = 0;
            out[item] += unit * p;
        }
        out
    };
    (0..rows).map(row).collect()
}

struct Lexicon {
    coda: String,
    registers: Vec<String>,
    /// Indefinite and definite, singular before plural: the index modulo two is the number.
    articles: Vec<String>,
    relatives: Vec<String>,
    /// Indexed by class * 2 + number.
    pronouns: Vec<String>,
    joiners: Vec<String>,
    prepositions: Vec<String>,
    names: Vec<String>,
    places: Vec<String>,
    speech: Vec<String>,
    adverbs: Vec<String>,
    nouns: Vec<Vec<String>>,
    verbs: Vec<Vec<String>>,
    adjectives: Vec<Vec<String>>,
    /// Class of every entity: nouns first, then names.
    class: Vec<usize>,
    /// The complement of a verb: nothing, an object or a place.
    valency: Vec<usize>,
    topics: Table,
    companions: Table,
    homes: Table,
    actions: Table,
    objects: Table,
    qualities: Table,
    manners: Table,
    ways: Table,
    spots: Table,
    tellings: Table,
    brackets: Table,
}

/// Words invented so far, so that no two are the same, and the randomness they come from.
struct Inventor(BTreeSet<String>, Random);

/// Invents words with one form for every suffix.
fn invent(by: &mut Inventor, count: usize, syllables: u32, suffixes: &[&str]) -> Vec<Vec<String>> {
    const ONSETS: [&str; 16] = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "sh", "kr"];
    const VOWELS: [&str; 7] = ["a", "e", "i", "o", "u", "ae", "ou"];
    const CODAS: [&str; 8] = ["", "", "", "", "n", "l", "r", "s"];
    let (Inventor(used, random), mut out) = (by, Vec::with_capacity(count));
    while out.len() < count {
        let mut stem = String::new();
        // Like in natural languages, the words at the common end of the list are the shorter ones.
        for _ in 0..syllables + u32::from(out.len() * 3 > count) {
            stem.push_str(ONSETS[random.below(16) as usize]);
            stem.push_str(VOWELS[random.below(7) as usize]);
            stem.push_str(CODAS[random.below(8) as usize]);
        }
        let forms: Vec<String> = suffixes.iter().map(|s| format!("{stem}{s}")).collect();
        if forms.iter().all(|f| !used.contains(f)) {
            used.extend(forms.iter().cloned());
            out.push(forms);
        }
    }
    out
}

fn lexicon() -> &'static Lexicon {
    static LEXICON: OnceLock<Lexicon> = OnceLock::new();
    LEXICON.get_or_init(|| {
        let mut by = Inventor(BTreeSet::new(), Random::keyed(1, 0));
        let mut words = |count, syllables, suffixes: &[&str]| invent(&mut by, count, syllables, suffixes);
        let mut plain = |count, syllables| words(count, syllables, &[""]).concat();
        let entities = NOUNS + NAMES;
        let mut draw = Random::keyed(2, 0);
        let mut labels = |count: usize, kinds: u32| (0..count).map(|_| draw.below(kinds) as usize).collect::<Vec<_>>();
        Lexicon {
            coda: plain(1, 1).concat(),
            registers: plain(REGISTERS, 1),
            articles: plain(4, 1),
            relatives: plain(CLASSES, 1),
            pronouns: plain(CLASSES * 2, 1),
            joiners: plain(4, 1),
            prepositions: plain(6, 1),
            names: plain(NAMES, 2),
            places: plain(PLACES, 2),
            speech: plain(12, 1),
            adverbs: plain(ADVERBS, 1),
            nouns: words(NOUNS, 1, &["", "ri"]),
            verbs: words(VERBS, 1, &["t", "nt"]),
            adjectives: words(ADJECTIVES, 1, &["ja", "je", "jo", "ju"]),
            class: labels(entities, CLASSES as u32),
            valency: labels(VERBS, 5).into_iter().map(|v| [0, 1, 1, 1, 2][v]).collect(),
            topics: table(3, NAMES * REGISTERS, NOUNS, &[8, 6, 4, 3, 2, 1]),
            companions: table(4, NAMES, NAMES, &[5, 3, 2, 1]),
            homes: table(5, NAMES, PLACES, &[5, 3, 1]),
            actions: table(6, entities, VERBS, &[6, 4, 2, 1]),
            objects: table(7, VERBS * entities, NOUNS, &[6, 3, 1]),
            qualities: table(8, NOUNS * REGISTERS, ADJECTIVES, &[5, 3, 1]),
            manners: table(9, VERBS * REGISTERS, ADVERBS, &[5, 3, 1]),
            ways: table(10, VERBS, 6, &[6, 1]),
            spots: table(11, VERBS, PLACES, &[3, 2, 1]),
            tellings: table(12, NAMES, 12, &[5, 3, 1]),
            brackets: table(13, 12, 4, &[1]),
        }
    })
}

/// Something that can be a subject: a noun or a name (counted after the nouns) and its number.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Entity {
    index: usize,
    number: usize,
}

/// The topic of a paragraph, fixed by its first four words.
#[derive(Clone, Copy, Default)]
struct Setting {
    register: usize,
    /// The hero and the companion.
    people: [usize; 2],
    place: usize,
}

struct Writer {
    random: Random,
    setting: Setting,
    /// Subject of the last clause outside brackets, which a pronoun there stands for.
    last: Option<Entity>,
    out: Sample,
}

impl Writer {
    fn put(&mut self, word: &str) {
        if !self.out.text.is_empty() && !self.out.text.ends_with('\n') {
            self.out.text.push(' ');
        }
        self.out.text.push_str(word);
        self.out.words += 1;
    }

    /// The only place where chance enters; it also keeps the account of the information.
    fn choose(&mut self, weights: &[u32]) -> usize {
        let chosen = self.random.weighted(weights);
        let total: u32 = weights.iter().sum();
        self.out.nats += (f64::from(total) / f64::from(weights[chosen])).ln();
        chosen
    }

    /// Chooses a word of a list and writes it.
    fn write(&mut self, list: &[String], weights: &[u32]) -> usize {
        let chosen = self.choose(weights);
        self.put(&list[chosen]);
        chosen
    }

    fn chance(&mut self, yes: u32, of: u32) -> bool {
        self.choose(&[of - yes, yes]) == 1
    }

    fn paragraph(&mut self) {
        let l = lexicon();
        let register = self.choose(&[6, 4, 3, 2]);
        let hero = self.choose(&std::array::from_fn::<u32, NAMES, _>(|i| 6000 / (i as u32 + 4)));
        let mut others = l.companions[hero].clone();
        others[hero] = 0;
        let companion = self.choose(&others);
        let place = self.choose(&l.homes[hero]);
        self.setting = Setting { register, people: [hero, companion], place };
        self.last = None;
        let head = [&l.registers[register], &l.names[hero], &l.names[companion], &l.places[place]];
        head.iter().for_each(|word| self.put(word));
        let mut sentences = 0;
        while sentences < 2 || self.chance(3, 4) {
            self.sentence(0);
            self.put(";");
            sentences += 1;
        }
        self.put(&l.coda);
        head.iter().rev().for_each(|word| self.put(word));
        self.put(".");
    }

    /// One or more clauses or pieces of quoted speech; `depth` counts the brackets around them.
    fn sentence(&mut self, depth: usize) {
        let l = lexicon();
        loop {
            if depth < 3 && self.chance(1, 5) {
                let speaker = self.setting.people[self.choose(&[3, 2])];
                self.put(&l.names[speaker]);
                let verb = self.write(&l.speech, &l.tellings[speaker]);
                let kind = self.choose(&l.brackets[verb]);
                self.put(OPEN[kind]);
                self.sentence(depth + 1);
                self.put(CLOSE[kind]);
            } else {
                self.clause(depth);
            }
            if !self.chance(1, 5) {
                return;
            }
            self.write(&l.joiners, &[5, 3, 2, 1]);
        }
    }

    fn clause(&mut self, depth: usize) {
        let l = lexicon();
        let referent = self.last.filter(|_| depth == 0);
        let subject = match self.choose(&[9, 4, 3, 4 * u32::from(referent.is_some())]) {
            0 => self.noun_phrase(&l.topics[self.setting.people[0] * REGISTERS + self.setting.register], 0),
            who @ (1 | 2) => self.name(who - 1),
            _ => {
                let entity = referent.expect("only weighted when there is one");
                self.put(&l.pronouns[l.class[entity.index] * 2 + entity.number]);
                entity
            }
        };
        self.last = if depth == 0 { Some(subject) } else { self.last };
        self.predicate(subject, 0);
    }

    /// Names the hero (0) or the companion (1).
    fn name(&mut self, who: usize) -> Entity {
        let name = self.setting.people[who];
        self.put(&lexicon().names[name]);
        Entity { index: NOUNS + name, number: 0 }
    }

    /// A noun phrase or, by the second and third weight, a name.
    fn nominal(&mut self, weights: [u32; 3], nouns: &[u32], nesting: u32) -> Entity {
        match self.choose(&weights) {
            0 => self.noun_phrase(nouns, nesting),
            who => self.name(who - 1),
        }
    }

    /// Verb, what the verb asks for, and perhaps an adverb.
    fn predicate(&mut self, subject: Entity, nesting: u32) {
        let l = lexicon();
        let verb = self.choose(&l.actions[subject.index]);
        self.put(&l.verbs[verb][subject.number]);
        match l.valency[verb] {
            0 => {}
            1 => drop(self.nominal([8, 1, 1], &l.objects[verb * (NOUNS + NAMES) + subject.index], nesting + 1)),
            _ => {
                self.write(&l.prepositions, &l.ways[verb]);
                let mut spots = l.spots[verb].clone();
                spots[self.setting.place] += spots.iter().sum::<u32>();
                self.write(&l.places, &spots);
            }
        }
        if self.chance(1, 4) {
            self.write(&l.adverbs, &l.manners[verb * REGISTERS + self.setting.register]);
        }
    }

    /// Article, noun, perhaps an adjective and a relative clause; deeper phrases carry fewer clauses, so that texts end.
    fn noun_phrase(&mut self, nouns: &[u32], nesting: u32) -> Entity {
        let l = lexicon();
        let article = self.write(&l.articles, &[5, 3, 4, 2]);
        let head = Entity { index: self.choose(nouns), number: article % 2 };
        self.put(&l.nouns[head.index][head.number]);
        let class = l.class[head.index];
        if self.chance(2, 5) {
            let quality = self.choose(&l.qualities[head.index * REGISTERS + self.setting.register]);
            self.put(&l.adjectives[quality][class]);
        }
        if nesting < 3 && self.chance(1, 4 + 2 * nesting) {
            self.put(&l.relatives[class]);
            if self.chance(2, 5) {
                // The head is the object: the clause brings a subject of its own, and only verbs with an object fit.
                let subject = self.nominal(
                    [3, 1, 1],
                    &l.topics[self.setting.people[0] * REGISTERS + self.setting.register],
                    nesting + 1,
                );
                let mut verbs = l.actions[subject.index].clone();
                verbs.iter_mut().zip(&l.valency).for_each(|(w, &v)| *w *= u32::from(v == 1));
                let verb = self.choose(&verbs);
                self.put(&l.verbs[verb][subject.number]);
            } else {
                self.predicate(head, nesting);
            }
            self.put(",");
        }
        head
    }
}

#[cfg(test)]
mod tests;
