//! Texts that are continued.

use std::collections::BTreeMap;
use std::sync::Arc;

use paring::Result;
use paring::report::words::plural;
use paring_generate::settings::Length;
use paring_generate::{Batch, Id, Limits, Request, Settings, Text, Timing, beam};
use serde_json::{Value, json};

use super::prompts::{self, Prompt};
use super::{Made, Opened, open};
use crate::args::{GenerateArgs, Shared};
use crate::progress::Log;
use crate::show::{Answer, Failure, terminal};
use crate::stderr;

/// Exit code of a process that ctrl-C ended.
const STOPPED: u8 = 130;

/// The work on prompts, and where answers go.
struct Work<'a> {
    opened: &'a Opened<'a>,
    settings: &'a Settings,
    prompts: Vec<Vec<u32>>,
    /// True if there may be several: each answer is a line.
    is_file: bool,
}

pub fn generate(args: &GenerateArgs, shared: &Shared, log: &Log) -> Result<Answer, Failure> {
    let asked = args.settings.choices(Some(&args.beams));
    Settings::resolve(&asked, &Default::default())?;
    let (prompts, is_file) = prompts::read(args)?;
    let opened = open(&args.model, &args.memory, (shared, log))?;
    let settings = opened.settings(&asked, args.chat)?;
    opened.note(args.settings.without_effect(Some(&args.beams), (settings.do_sample, settings.num_beams > 1)));
    let tokens = prompts.iter().map(|prompt| tokens(prompt, &opened, &settings)).collect::<Result<_>>()?;
    let work = Work { opened: &opened, settings: &settings, prompts: tokens, is_file };
    opened.interrupt.begin();
    let (made, timing) = if settings.num_beams > 1 { work.with_beams()? } else { work.in_a_batch()? };
    let is_stopped = opened.interrupt.end();
    let new = made.iter().map(|made| made.tokens.len()).sum();
    if opened.is_loud {
        stderr::line(opened.rates(&timing, new));
    }
    let answer = work.answer(&made, log)?;
    if is_stopped {
        return Err(Failure::new("stopped", STOPPED).after(answer));
    }
    Ok(answer)
}

/// The tokens of a prompt that the context has place for.
fn tokens(prompt: &Prompt, opened: &Opened<'_>, settings: &Settings) -> Result<Vec<u32>> {
    let generator = &opened.generator;
    let tokens = prompt.tokens(&generator.tokenizer).map_err(|error| prompt.located(error))?;
    let new = settings.new_tokens(tokens.len(), generator.engine.longest()).map_err(|error| prompt.located(error))?;
    if let (Length::Total(most), 0) = (settings.length, new) {
        let place = prompt.place.as_ref().map_or(String::new(), |place| format!("{place}: "));
        let problem = format!(
            "the prompt has {}, and the model's files allow {most} with the answer",
            plural(tokens.len(), "token")
        );
        opened.note([format!("{place}{problem}, which is empty; use --max-new-tokens")]);
    }
    Ok(tokens)
}

impl Work<'_> {
    /// Prints the next piece of the only answer, or one of several answers when it is over.
    fn print(&self, made: &Made, piece: &str, is_over: bool) -> Result<()> {
        match (self.is_file, is_over) {
            (false, true) => self.opened.print(&format!("{piece}\n")),
            (false, false) => self.opened.print(piece),
            (true, true) => {
                let line = json!({"text": made.text}).to_string();
                self.opened.print(&format!("{}\n", terminal::json(&line)))
            }
            (true, false) => Ok(()),
        }
    }

    /// The result of the command.
    fn answer(&self, made: &[Made], log: &Log) -> Result<Answer> {
        let values: Vec<Value> = made.iter().map(|made| made.value(self.settings)).collect();
        let value = match values.as_slice() {
            [value] if !self.is_file => value.clone(),
            values => json!({"answers": values}),
        };
        let value = self.opened.told(value);
        log.result(&value);
        Answer::new(&value)
    }

    /// Answers all prompts together. They are printed in their order.
    fn in_a_batch(&self) -> Result<(Vec<Made>, Timing)> {
        let generator = &self.opened.generator;
        let tokenizer = Some(Arc::clone(&generator.tokenizer));
        let mut batch = Batch::new(generator.engine.clone(), tokenizer, Limits::default());
        let mut numbers: BTreeMap<Id, usize> = BTreeMap::new();
        let mut all: Vec<Made> = Vec::new();
        for (number, prompt) in self.prompts.iter().enumerate() {
            let request = Request { stream: number as u64, ..Request::new(prompt.clone(), self.settings.clone()) };
            numbers.insert(batch.add(request)?, number);
            all.push(Made { prompt_tokens: prompt.len(), ..Made::default() });
        }
        let mut printed = 0;
        while !batch.is_idle() && !self.opened.interrupt.is_asked() {
            for event in batch.step()? {
                let Some(&number) = numbers.get(&event.id) else { continue };
                let piece = event.text.clone();
                let is_over = all[number].take(event)?.is_some();
                if !self.is_file {
                    self.print(&all[number], &piece, is_over)?;
                }
            }
            while let Some(made) = all.get(printed).filter(|made| self.is_file && !made.reason.is_empty()) {
                self.print(made, "", true)?;
                printed += 1;
            }
        }
        if !self.is_file && all.iter().any(|made| made.reason.is_empty()) {
            self.opened.print("\n")?;
        }
        all.iter_mut().filter(|made| made.reason.is_empty()).for_each(|made| made.reason = "interrupted");
        let mut timing = Timing::default();
        // In a batch their times overlap, and say nothing of the whole.
        match all.as_slice() {
            [made] => timing = made.timing,
            many => many.iter().for_each(|made| timing.prompt_tokens += made.timing.prompt_tokens),
        }
        Ok((all, timing))
    }

    /// Searches the best answer to each prompt, until it is interrupted.
    fn with_beams(&self) -> Result<(Vec<Made>, Timing)> {
        let (mut all, mut timing) = (Vec::new(), Timing::default());
        for prompt in &self.prompts {
            let made = match self.opened.interrupt.is_asked() {
                true => Made { reason: "interrupted", prompt_tokens: prompt.len(), ..Made::default() },
                false => {
                    let made = self.searched(prompt)?;
                    self.print(&made, &made.text, true)?;
                    made
                }
            };
            timing.add(&made.timing);
            all.push(made);
        }
        Ok((all, timing))
    }

    /// The best answer to a prompt, up to a stop string.
    fn searched(&self, prompt: &[u32]) -> Result<Made> {
        let (generator, interrupt) = (&self.opened.generator, &self.opened.interrupt);
        let found = beam::search(&generator.engine, prompt, self.settings, &mut || interrupt.is_asked())?;
        let mut made = Made { prompt_tokens: prompt.len(), timing: found.timing, reason: "length", ..Made::default() };
        // None where no token was asked for.
        if let Some(best) = found.beams.into_iter().next() {
            let tokenizer = &generator.tokenizer;
            let mut text = Text::after(prompt, &self.settings.stop);
            for token in best.tokens {
                made.tokens.push(token);
                made.text.push_str(&text.push(tokenizer, token)?);
                if text.is_stopped() {
                    break;
                }
            }
            made.text.push_str(&text.finish(tokenizer)?);
            if best.ended || text.is_stopped() {
                made.reason = "stop";
            }
        }
        if interrupt.is_asked() {
            made.reason = "interrupted";
        }
        Ok(made)
    }
}
