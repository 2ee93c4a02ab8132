//! Names of tasks → requests, and the model's answers to them → results.

use std::path::PathBuf;

use paring_data::Tokenizer;
use paring_data::records::{self, Record};

use crate::document::{Document, Row};
use crate::encode::{Encoding, Pair};
use crate::error::{Error, Result, option};
use crate::files::{Files, Finder};
use crate::options::Options;
use crate::request::{Request, Score};
use crate::results::{self, Sample, TaskResult};
use crate::set::{Asked, Set, What, digest};
use crate::shots::{Loaded, drawn, example};
use crate::table::{self, Group, Kind, Shots, Task};

/// Documents that become tokens at a time.
const AT_A_TIME: usize = 64;

/// Tasks that were chosen by name.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    tasks: Vec<Task>,
    summarized: Vec<Task>,
    groups: Vec<&'static Group>,
}

impl Plan {
    /// The tasks and groups of these names, each once, in their order. Errors on a name that none has, with the nearest ones.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut plan = Self::default();
        for name in names {
            if let Some(task) = table::find(name) {
                plan.add(task);
            } else if let Some(group) = table::group(name) {
                // The parts of MMLU are counted with it.
                let parts =
                    table::groups().iter().filter(|part| part.tasks.iter().all(|task| group.tasks.contains(task)));
                for part in parts {
                    if !plan.groups.contains(&part) {
                        plan.groups.push(part);
                    }
                }
                group.tasks.iter().filter_map(|task| table::find(task)).for_each(|task| plan.add(task));
            } else {
                return Err(table::unknown(name));
            }
        }
        Ok(plan)
    }

    fn add(&mut self, task: &Task) {
        let of_kind = if task.kind == Kind::Summary { &mut self.summarized } else { &mut self.tasks };
        if of_kind.iter().all(|known| known.name != task.name) {
            of_kind.push(task.clone());
        }
    }

    /// The same with the questions of a file, whose name without its ending is the task's. Errors where another task has it.
    pub fn with_file(mut self, path: PathBuf) -> Result<Self> {
        let task = table::of_file(path)?;
        if self.tasks.iter().any(|known| known.name == task.name) {
            return Err(Error::Misuse(format!("two task files are called {}; rename one", task.name).into()));
        }
        self.tasks.push(task);
        Ok(self)
    }

    /// The chosen tasks that make requests.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Those that are summarized ([`crate::summaries`]).
    pub fn summarized(&self) -> &[Task] {
        &self.summarized
    }

    /// Reads the documents of [`Plan::tasks`] and makes requests of them, for a model that takes `longest` tokens at a time.
    ///
    /// Errors where documents are nowhere or are not what the task needs, there are fewer examples than asked for, or a text makes
    /// no tokens or too many; always one line with the file, the row and what to do. Takes memory for all tokens.
    pub fn prepare(&self, options: &Options, files: &Files<'_>, tokenizer: &Tokenizer, longest: usize) -> Result<Work> {
        if longest == 0 {
            return Err(Error::Misuse("a model that takes no tokens cannot be asked".into()));
        }
        let (finder, encoding) = (Finder::new(files), Encoding::new(tokenizer, options, longest)?);
        let mut work = Work {
            requests: Vec::new(),
            longest,
            sets: Vec::new(),
            groups: self.groups.clone(),
            options: options.clone(),
        };
        for task in &self.tasks {
            let texts = Texts::read(task, options, &finder)?;
            work.add(task, &texts, &encoding)?;
        }
        Ok(work)
    }
}

/// The documents of a task as text, with their examples.
pub(crate) struct Texts {
    /// The documents that are asked.
    pub documents: Vec<Loaded>,
    /// The file and row of each.
    places: Vec<String>,
    /// The description and the examples in front of each.
    pub before: Vec<String>,
}

impl Texts {
    pub fn read(task: &Task, options: &Options, finder: &Finder<'_>) -> Result<Self> {
        let shots = options.shots;
        let is_drawn_from_itself = matches!(task.shots, Shots::Drawn { pool: None, .. }) && shots > 0;
        let (mut documents, mut places) = read(task, task.split, options, finder)?;
        let pool = match task.shots {
            Shots::First(split) | Shots::Drawn { pool: Some(split), .. } if shots > 0 => {
                read(task, split, options, finder)?.0
            }
            _ => Vec::new(),
        };
        let asked = options.limit.map_or(documents.len(), |limit| limit.of(documents.len()));
        if asked == 0 {
            return Err(Error::setting(option::LIMIT, 0, "no document is left; use more"));
        }
        places.truncate(asked);
        let pool_or_own = if is_drawn_from_itself { &documents } else { &pool };
        let picked = drawn(task, &documents[..asked], pool_or_own, shots)?;
        let example = |index: &usize| match pool_or_own.get(*index).map(|loaded| &loaded.document) {
            Some(Document::Choices(choices)) => example(task, choices),
            _ => String::new(),
        };
        let before = picked.iter().map(|picked| {
            let examples: String = picked.iter().map(example).collect();
            format!("{}{examples}", task.description)
        });
        let before = before.collect();
        documents.truncate(asked);
        Ok(Self { documents, places, before })
    }

    /// The pairs of a document of a number.
    pub fn pairs(&self, number: usize) -> Vec<Pair> {
        let (Some(Loaded { document: Document::Choices(choices), .. }), Some(before)) =
            (self.documents.get(number), self.before.get(number))
        else {
            return Vec::new();
        };
        let pair = |(k, choice): (usize, &String)| Pair {
            context: format!("{before}{}", choices.context(k)),
            continuation: format!(" {choice}"),
        };
        choices.choices.iter().enumerate().map(pair).collect()
    }
}

/// The documents of a split, and the file and row of each. The values of rows are `kept` where these are compared.
fn read(task: &Task, split: &str, options: &Options, finder: &Finder<'_>) -> Result<(Vec<Loaded>, Vec<String>)> {
    let (schema, mut loaded, mut places) = (&task.schema, Vec::new(), Vec::new());
    let kept = options.shots > 0 && matches!(task.shots, Shots::Drawn { apart: true, .. });
    let columns = [schema.needed, schema.also].concat();
    let paths = finder.find(task, split)?;
    for path in &paths {
        let file = path.display().to_string();
        let mut wrong = None;
        records::each(path, schema.needed, schema.also, &mut |record| {
            let Record { place, values } = record;
            let is_own = task.source.is_own();
            let row = Row { file: &file, place: &place, columns: &columns, values: &values, is_own };
            match (schema.read)(&row, options.protocol) {
                Ok(document) => {
                    places.push(format!("{file}: {place}"));
                    loaded.push(Loaded { values: if kept { values } else { Vec::new() }, document });
                }
                Err(error) => wrong = Some(error),
            }
            Ok(wrong.is_none())
        })?;
        if let Some(error) = wrong {
            return Err(error);
        }
    }
    if loaded.is_empty() {
        return Err(Error::no_documents(&paths));
    }
    Ok((loaded, places))
}

/// Requests of tasks, and what is needed to count the answers to them.
#[derive(Clone, Debug)]
pub struct Work {
    /// The requests of all tasks, in their order.
    pub requests: Vec<Request>,
    /// Tokens that the model sees of each, at most.
    pub longest: usize,
    sets: Vec<Set>,
    groups: Vec<&'static Group>,
    options: Options,
}

impl Work {
    /// Adds the requests of a task.
    fn add(&mut self, task: &Task, texts: &Texts, encoding: &Encoding<'_>) -> Result<()> {
        let mut documents = Vec::with_capacity(texts.documents.len());
        for begin in (0..texts.documents.len()).step_by(AT_A_TIME) {
            let some = begin..texts.documents.len().min(begin + AT_A_TIME);
            self.add_some(texts, some, encoding, &mut documents)?;
        }
        let (version, kind) = (task.version.unwrap_or_default(), task.kind);
        self.sets.push(Set { task: task.name.to_string(), version, kind, documents });
        Ok(())
    }

    fn add_some(
        &mut self,
        texts: &Texts,
        some: std::ops::Range<usize>,
        encoding: &Encoding<'_>,
        asked: &mut Vec<Asked>,
    ) -> Result<()> {
        let pages: Vec<&str> = texts.documents[some.clone()].iter().filter_map(Loaded::page).collect();
        if pages.len() == some.len() {
            let windows = encoding.windows(&pages, &|page| texts.places[some.start + page].clone())?;
            for (loaded, windows) in texts.documents[some].iter().zip(windows) {
                let begin = self.requests.len();
                self.requests.extend(windows);
                if let Document::Page { text, words, bytes } = &loaded.document {
                    let what = What::Page { words: *words, bytes: *bytes };
                    asked.push(Asked { requests: begin..self.requests.len(), digest: digest([text.as_str()]), what });
                }
            }
            return Ok(());
        }
        let (mut pairs, mut of) = (Vec::new(), Vec::new());
        for number in some.clone() {
            let more = texts.pairs(number);
            of.extend((0..more.len()).map(|choice| (number, choice)));
            pairs.extend(more);
        }
        let place = |pair: usize| {
            let (number, choice) = of[pair];
            format!("{}: choice {choice}", texts.places[number])
        };
        let mut requests = encoding.requests(&pairs, &place)?.into_iter();
        let mut pairs = pairs.iter();
        for loaded in &texts.documents[some] {
            let Document::Choices(choices) = &loaded.document else { continue };
            let (count, begin) = (choices.choices.len(), self.requests.len());
            let own = pairs.by_ref().take(count).flat_map(|pair| [pair.context.as_str(), &pair.continuation]);
            let digest = digest(own);
            self.requests.extend(requests.by_ref().take(count));
            let what = What::Choices { choices: choices.choices.clone(), gold: choices.gold };
            asked.push(Asked { requests: begin..self.requests.len(), digest, what });
        }
        Ok(())
    }

    /// The results of the tasks, each group before its tasks, from the answers to [`Work::requests`], in that order.
    ///
    /// Errors where there are not as many, or one is not a number. Draws for standard errors of perplexities take seconds.
    pub fn results(&self, scores: &[Score]) -> Result<Vec<TaskResult>> {
        self.check(scores)?;
        let Options { shots, bootstrap, .. } = self.options;
        let tasks: Vec<TaskResult> =
            self.sets.iter().map(|set| results::of_set(set, scores, shots, bootstrap)).collect();
        let mut groups: Vec<TaskResult> =
            self.groups.iter().filter_map(|group| results::of_group(group, &tasks)).collect();
        let mut all = Vec::with_capacity(tasks.len() + groups.len());
        for task in tasks {
            let (of_it, others) = groups.into_iter().partition(|group| group.tasks.contains(&task.task));
            groups = others;
            all.extend::<Vec<TaskResult>>(of_it);
            all.push(task);
        }
        Ok(all)
    }

    /// A record of each document: the requests, the answers, and its part in the metrics. Errors as [`Work::results`].
    pub fn samples<'a>(&'a self, scores: &'a [Score]) -> Result<impl Iterator<Item = Sample> + 'a> {
        self.check(scores)?;
        Ok(self.sets.iter().flat_map(move |set| results::samples(set, &self.requests, scores)))
    }

    /// The tasks, with the number of documents that are asked.
    pub fn tasks(&self) -> impl Iterator<Item = (&str, usize)> {
        self.sets.iter().map(|set| (set.task.as_str(), set.documents.len()))
    }

    /// The document and the choice of a request, for messages.
    pub fn place(&self, request: usize) -> String {
        let found = self.sets.iter().find_map(|set| {
            let number = set.documents.iter().position(|document| document.requests.contains(&request))?;
            let choice = request - set.documents.get(number)?.requests.start;
            Some(format!("{}, document {number}, choice {choice}", set.task))
        });
        found.unwrap_or_else(|| format!("request {request}"))
    }

    fn check(&self, scores: &[Score]) -> Result<()> {
        if scores.len() != self.requests.len() {
            let (got, expected) = (scores.len(), self.requests.len());
            return Err(Error::Scores(format!("{got} answers, expected one for each of {expected} requests")));
        }
        let Some(at) = scores.iter().position(|score| score.loglikelihood.is_nan()) else { return Ok(()) };
        let set = self.place(at);
        Err(Error::Scores(format!(
            "{set}: the model gives NaN; its weights are damaged, or too large for this precision"
        )))
    }
}
