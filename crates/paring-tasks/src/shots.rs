//! Examples in front of questions, the same that the harness draws with Python's `random`.

use paring_data::python::Random;
use paring_format::message;
use paring_format::message::Setting;
use serde_json::Value;

use crate::document::{Choices, Document};
use crate::error::{Error, Result, option};
use crate::table::{Kind, Shots, Task};

/// The harness's seed of every task.
const SEED: u64 = 1234;

/// A document, with the values of its row where these tell whether two are the same.
pub(crate) struct Loaded {
    pub values: Vec<Value>,
    pub document: Document,
}

/// For each of the documents that are asked, the numbers of its examples in `pool`.
///
/// Errors where the pool has not as many as are asked for.
pub(crate) fn drawn(task: &Task, asked: &[Loaded], pool: &[Loaded], shots: usize) -> Result<Vec<Vec<usize>>> {
    let apart = match task.shots {
        _ if shots == 0 => return Ok(vec![Vec::new(); asked.len()]),
        Shots::None => {
            return Err(Error::setting(
                option::SHOTS,
                shots,
                &format!("{} takes no examples; leave it out", task.name),
            ));
        }
        Shots::First(_) if shots > pool.len() => return Err(too_few(task, shots, shots, pool.len())),
        Shots::First(_) => return Ok(vec![(0..shots).collect(); asked.len()]),
        Shots::Drawn { apart, .. } => apart,
    };
    let mut random = Random::new(SEED);
    let draws = shots + usize::from(apart);
    let mut all = Vec::with_capacity(asked.len());
    for one in asked {
        let mut picked = random.sample(pool.len(), draws).ok_or_else(|| too_few(task, shots, draws, pool.len()))?;
        if apart {
            let is_other = |index: &usize| pool[*index].values != one.values;
            picked.retain(is_other);
            if picked.len() < shots {
                let others: Vec<usize> = (0..pool.len()).filter(is_other).collect();
                let again = random.sample(others.len(), shots);
                let again = again.ok_or_else(|| too_few(task, shots, shots, others.len()))?;
                picked = again.into_iter().map(|index| others[index]).collect();
            }
            picked.truncate(shots);
        }
        all.push(picked);
    }
    Ok(all)
}

fn too_few(task: &Task, shots: usize, draws: usize, there: usize) -> Error {
    let reason = format!(": {draws} documents are drawn for {}, and there are {there}; use fewer", task.name);
    Error::documents(message![Setting::with(option::SHOTS, shots), reason])
}

/// An example as it stands in front of a question.
pub(crate) fn example(task: &Task, choices: &Choices) -> String {
    let Choices { gold, .. } = *choices;
    // The last word brings a space of its own.
    let space = if task.kind == Kind::LastWord { "  " } else { " " };
    let answer = choices.choices.get(gold).map_or("", String::as_str);
    format!("{}{space}{answer}\n\n", choices.context(gold))
}

impl Loaded {
    /// The text, where it is a page.
    pub fn page(&self) -> Option<&str> {
        match &self.document {
            Document::Page { text, .. } => Some(text),
            Document::Choices(_) | Document::Article(_) => None,
        }
    }
}
