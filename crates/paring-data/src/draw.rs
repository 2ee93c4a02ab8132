//! Windows at random places, the same that the published codes draw with Python's `random`.

use paring_format::message;
use paring_format::message::Setting;
use std::collections::{BTreeMap, BTreeSet};

use crate::documents::{Document, Documents};
use crate::error::option;
use crate::random::Random;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Documents that are drawn in vain for one window before a collection counts as one of short documents. Where one
/// document in a thousand is long enough, that happens once in 10⁸ windows.
const MAX_TRIES: usize = 20_000;
/// Draws that one pass through a collection provides for, …
const AHEAD: usize = 1 << 15;
/// … as long as their documents are not larger than this.
const AHEAD_BYTES: u64 = 64 << 20;

/// `random.randint(0, tokens - seqlen - 1)`, where the windows are all but the last of `tokens` tokens. A text of
/// exactly one window, on which Python raises an error, has its start at 0.
fn start(random: &mut Random, tokens: usize, seqlen: usize) -> Result<usize> {
    let last = (tokens - seqlen).saturating_sub(1);
    let last = u32::try_from(last)
        .map_err(|_| Error::Sampling(format!("cannot draw windows from {tokens} tokens; use a smaller text").into()))?;
    Ok(random.up_to(last) as usize)
}

/// Starts of `count` windows in a text of `tokens` tokens, at least `seqlen` of them.
pub(super) fn starts(tokens: usize, seqlen: usize, count: usize, seed: u64) -> Result<Vec<usize>> {
    let mut random = Random::new(seed);
    (0..count).map(|_| start(&mut random, tokens, seqlen)).collect()
}

/// The parameters of drawing windows from documents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    /// Tokens in a window.
    pub seqlen: usize,
    /// Tokens that a document has at least.
    pub shortest: usize,
    /// Windows wanted.
    pub count: usize,
    /// Python's seed.
    pub seed: u64,
}

impl Draw {
    /// For each window, a document is drawn until one is long enough, then a start in it. `read` returns the tokens of
    /// the document of an index, and may look at the generator to see which others will follow. Calls `take` with each
    /// window's document, its start and its tokens.
    fn run(
        &self,
        source: &str,
        documents: usize,
        read: &mut dyn FnMut(usize, &Random) -> Result<Vec<u32>>,
        take: &mut dyn FnMut(usize, usize, &[u32]),
    ) -> Result<()> {
        let &Self { seqlen, shortest, .. } = self;
        let last =
            documents.checked_sub(1).ok_or_else(|| Error::data(source, "no documents in it; use a file with text"))?;
        let last = u32::try_from(last)
            .map_err(|_| Error::data(source, format!("{documents} documents are too many; use a smaller file")))?;
        let mut random = Random::new(self.seed);
        let (mut short, mut longest) = (BTreeSet::new(), 0);
        for _ in 0..self.count {
            let mut tries = 0;
            loop {
                let index = random.up_to(last) as usize;
                tries += 1;
                if !short.contains(&index) {
                    let tokens = read(index, &random)?;
                    if tokens.len() >= shortest {
                        let at = start(&mut random, tokens.len(), seqlen)?;
                        take(index, at, &tokens[at..at + seqlen]);
                        break;
                    }
                    longest = longest.max(tokens.len());
                    short.insert(index);
                }
                if short.len() == documents || tries == MAX_TRIES {
                    let seen = short.len();
                    let problem = format!(
                        "no document fills a window of {seqlen} tokens: the longest of the {seen} that were tried (of \
                        {documents}) has {longest}, expected {shortest}; use longer documents or a smaller "
                    );
                    return Err(Error::data(source, message![problem, Setting::new(option::SEQLEN)]));
                }
            }
        }
        Ok(())
    }

    /// Windows from documents of a file, joined.
    ///
    /// A file cannot be entered in the middle, and which documents are long enough shows only when they are tokenized.
    /// But Python draws every number from one word of its generator: the documents that the next words can mean are
    /// known beforehand, so that one pass through the file finds the documents of many draws.
    pub fn windows(&self, name: &str, documents: &Documents, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let sizes = documents.sizes()?;
        let mut near: BTreeMap<usize, (usize, Document)> = BTreeMap::new();
        let mut read = |index: usize, random: &Random| -> Result<Vec<u32>> {
            if !near.contains_key(&index) {
                let mut wanted = BTreeSet::from([index]);
                let mut bytes = u64::from(sizes.get(index).copied().unwrap_or(0));
                for next in random.upcoming((sizes.len() - 1) as u32).take(AHEAD).flatten() {
                    if wanted.insert(next as usize) {
                        bytes += u64::from(sizes[next as usize]);
                        if bytes > AHEAD_BYTES {
                            wanted.remove(&(next as usize));
                            break;
                        }
                    }
                }
                near.clear();
                near = documents.pick(&wanted)?;
            }
            let Some((number, document)) = near.get(&index) else {
                return Err(Error::data(name, "the file changed while it was read; run the command again"));
            };
            tokenizer.document(documents, *number, document)
        };
        let mut ids = Vec::new();
        self.run(name, sizes.len(), &mut read, &mut |_, _, window| ids.extend_from_slice(window))?;
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    fn numbers(value: &Value) -> Vec<usize> {
        value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
    }

    fn drawn(lengths: &[usize], draw: &Draw) -> Result<Vec<[usize; 2]>> {
        let mut picks = Vec::new();
        let mut read = |index: usize, _: &Random| Ok(vec![7; lengths[index]]);
        draw.run("set", lengths.len(), &mut read, &mut |index, start, window| {
            assert_eq!(window.len(), draw.seqlen);
            picks.push([index, start]);
        })?;
        Ok(picks)
    }

    /// `tests/golden/algorithms/sampling.json`: what the published codes of four methods pick.
    #[test]
    fn picks_of_the_published_codes() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/algorithms/sampling.json");
        let cases: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut compared = 0;
        for case in cases.as_array().unwrap() {
            let lengths = numbers(&case["document_lengths"]);
            let (seqlen, count) =
                (case["seqlen"].as_u64().unwrap() as usize, case["nsamples"].as_u64().unwrap() as usize);
            let seed = case["seed"].as_u64().unwrap();
            for (code, sets) in case["picks"].as_object().unwrap() {
                for (set, want) in sets.as_object().unwrap() {
                    let shortest = seqlen + usize::from(code == "sparsegpt" || code == "wanda");
                    let context = format!("{code}, {set}, seed {seed}");
                    match set.as_str() {
                        "c4_eval_windows" => continue,
                        "wikitext2" | "ptb" => {
                            let all = lengths.iter().sum();
                            assert_eq!(starts(all, seqlen, count, seed).unwrap(), numbers(want), "{context}");
                        }
                        "c4" | "c4_new" | "c4_eval_first32" => {
                            // Evaluation is always seeded with 0.
                            let (count, seed) = if set == "c4_eval_first32" { (32, 0) } else { (count, seed) };
                            let draw = Draw { seqlen, shortest, count, seed };
                            let got = drawn(&lengths, &draw).unwrap().into_iter().map(Vec::from).collect::<Vec<_>>();
                            let want: Vec<_> = want.as_array().unwrap().iter().map(numbers).collect();
                            assert_eq!(got, want, "{context}");
                        }
                        other => panic!("unknown set {other}"),
                    }
                    compared += 1;
                }
            }
        }
        assert_eq!(compared, 42);
    }

    #[test]
    fn documents_of_one_window_start_at_0() {
        let draw = Draw { seqlen: 8, shortest: 8, count: 3, seed: 5 };
        assert_eq!(drawn(&[8], &draw).unwrap(), [[0, 0]; 3]);
        assert!(drawn(&[8], &Draw { shortest: 9, ..draw }).is_err());
    }

    #[test]
    fn short_documents_come_to_an_end() {
        let draw = Draw { seqlen: 16, shortest: 17, count: 2, seed: 0 };
        let error = drawn(&[3, 16, 9], &draw).unwrap_err().to_string();
        assert_eq!(
            error,
            "set: no document fills a window of 16 tokens: the longest of the 3 that were tried (of 3) has 16, \
            expected 17; use longer documents or a smaller seqlen"
        );
        let error = drawn(&[1; 100_000], &draw).unwrap_err().to_string();
        assert!(error.contains("that were tried (of 100000) has 1, expected 17"), "{error}");
        assert!(drawn(&[], &draw).unwrap_err().to_string().contains("no documents"));
    }

    /// Every document that is drawn is among those that the words after the first were said to mean.
    #[test]
    fn the_next_documents_are_foreseen() {
        let lengths: Vec<usize> = (0..300).map(|i| i * 37 % 50).collect();
        let mut foreseen: BTreeSet<usize> = BTreeSet::new();
        let mut passes = 0;
        let mut read = |index: usize, random: &Random| {
            if !foreseen.contains(&index) {
                passes += 1;
                foreseen = random.upcoming(299).take(200).flatten().map(|i| i as usize).collect();
            }
            Ok(vec![0; lengths[index]])
        };
        let draw = Draw { seqlen: 40, shortest: 40, count: 60, seed: 3 };
        draw.run("set", 300, &mut read, &mut |_, _, _| {}).unwrap();
        // About 300 documents and 60 starts, of one to two words each, by 200 words.
        assert!((2..8).contains(&passes), "{passes} passes");
    }
}
