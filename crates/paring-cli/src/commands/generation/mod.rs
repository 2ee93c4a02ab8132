//! The commands that generate text.

mod chat;
mod generate;
mod prompts;
mod serve;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::IsTerminal;

use paring::report::peak_rss_mib;
use paring::report::words::plural;
use paring::request::Generator;
use paring::{Error, Result};
use paring_generate::batch::Finished;
use paring_generate::settings::Length;
use paring_generate::{Choices, Event, Finish, Sequence, Settings, Timing};
use paring_model::CacheType;
use serde_json::{Value, json};

use crate::args::{InMemoryArgs, Shared, sources};
use crate::machine;
use crate::progress::{Interrupt, Log, Progress};
use crate::show::paint::{self, Label};
use crate::show::{Channels, amounts, out, terminal};
use crate::stderr;

pub use chat::chat;
pub use generate::generate;
pub use serve::serve;

/// A model that is ready to generate.
struct Opened<'a> {
    log: &'a Log,
    generator: Generator,
    interrupt: Interrupt,
    channels: Channels,
    /// The folder of the adapter, if one is applied.
    adapter: Option<String>,
    /// True if stderr gets rates and notes.
    is_loud: bool,
}

/// Reads the model into memory, and tells the notes on it.
fn open<'a>(model: &str, memory: &InMemoryArgs, (shared, log): (&Shared, &'a Log)) -> Result<Opened<'a>> {
    let running = &memory.running;
    let threads = machine::threads(running.threads, running.place.isa.as_deref())?;
    let sources = memory.adapter.applied(sources(shared.quiet, &memory.opening))?;
    let local = sources.local(model)?;
    let budget = machine::budget(running)?;
    let mut progress = Progress::new(shared.channels(), running.verbose, log);
    let interrupt = progress.interrupts()?;
    let read = &mut |done, of| progress.reading(done, of);
    let generator = sources.generator(&local, running.dtype.precision(), budget.device(), memory.cache_type(), read)?;
    progress.done();
    let channels = shared.channels();
    let adapter = sources.adapter.as_ref().map(|adapter| adapter.place.display().to_string());
    let is_loud = !channels.quiet && !log.is_on_stderr();
    let opened = Opened { log, generator, interrupt, channels, adapter, is_loud };
    let applied = opened.adapter.iter().map(|place| format!("with the adapter {place}"));
    opened.note(threads.into_iter().chain(opened.generator.notes.iter().cloned()).chain(applied));
    Ok(opened)
}

impl Opened<'_> {
    /// Tells notes, on stderr and in the log.
    fn note(&self, notes: impl IntoIterator<Item = String>) {
        for note in notes {
            self.log.event("note", json!({"text": note}));
            if self.is_loud {
                stderr::line(paint::labelled(Label::Note, &note));
            }
        }
    }

    /// The settings: what is asked for, then what the model's files say. A chat has as many tokens as the context has place
    /// for where neither says how many, and a seed is drawn where one is needed.
    fn settings(&self, asked: &Choices, is_chat: bool) -> Result<Settings> {
        let model = &self.generator.choices;
        let mut settings = Settings::resolve(asked, model)?;
        let says = |choices: &Choices| choices.max_new_tokens.or(choices.max_length).is_some();
        if is_chat && !says(asked) && !says(model) {
            // Where nothing limits it, as far as the model was made for.
            let usual = self.generator.engine.decoder().max_positions();
            settings.length = self.generator.engine.longest().map_or(Length::Total(usual), |_| Length::Context);
        }
        if settings.num_beams > 1 {
            settings.do_sample = false;
        }
        if settings.do_sample && asked.seed.is_none() {
            settings.seed = RandomState::new().build_hasher().finish() >> 32;
        }
        Ok(settings)
    }

    /// Prints a piece of an answer: on stdout as it is into a file, and so that it can do no harm on a terminal; on stderr where
    /// stdout gets an object.
    fn print(&self, piece: &str) -> Result<()> {
        match self.channels.json {
            true if self.is_loud => stderr::text(&terminal::printable_lines(piece)),
            true => {}
            false if std::io::stdout().is_terminal() => out(&terminal::printable_lines(piece))?,
            false => out(piece)?,
        }
        Ok(())
    }

    /// An object of results, which says that an adapter was applied if one was.
    fn told(&self, mut value: Value) -> Value {
        if let Some(adapter) = &self.adapter {
            value["adapter"] = json!(adapter);
        }
        value
    }

    /// A line of rates.
    fn rates(&self, timing: &Timing, new: usize) -> String {
        let rate = |rate: Option<f64>| rate.map_or(String::new(), |rate| format!(" at {rate:.1} tokens/s"));
        let cache = match self.generator.engine.cache_type() {
            CacheType::F32 => "f32",
            CacheType::Bf16 => "bf16",
            CacheType::E4m3 => "fp8",
        };
        let [prompt, new] = [timing.prompt_tokens, new].map(|count| plural(count, "token"));
        format!(
            "prompt {prompt}{}, answer {new}{} (cache {cache}, {}, {})",
            rate(timing.prefill_rate()),
            rate(timing.decode_rate()),
            plural(rayon::current_num_threads(), "thread"),
            amounts::mib((peak_rss_mib() * f64::from(1u32 << 20)) as u64)
        )
    }
}

/// An answer.
#[derive(Default)]
struct Made {
    tokens: Vec<u32>,
    text: String,
    reason: &'static str,
    /// Tokens of the prompt, those among them that were known.
    prompt_tokens: usize,
    timing: Timing,
}

impl Made {
    /// Takes the news of a request. Returns the text as the model has seen it if they are the last.
    fn take(&mut self, event: Event) -> Result<Option<Sequence>> {
        self.text.push_str(&event.text);
        self.tokens.extend(event.token.map(|chosen| chosen.token));
        let Some(Finished { reason: finish, timing, sequence }) = event.finished else { return Ok(None) };
        self.timing = timing;
        self.reason = reason(finish)?;
        Ok(Some(sequence))
    }

    /// As programs get it.
    fn value(&self, settings: &Settings) -> Value {
        let mut value = json!({
            "tokens": self.tokens,
            "text": self.text,
            "finish_reason": self.reason,
            "prompt_tokens": self.prompt_tokens,
            "prefill_tokens_per_second": self.timing.prefill_rate(),
            "decode_tokens_per_second": self.timing.decode_rate(),
        });
        if settings.do_sample {
            value["seed"] = json!(settings.seed);
        }
        value
    }
}

/// The reason of an end, by its name in servers.
fn reason(finish: Finish) -> Result<&'static str> {
    match finish {
        Finish::End | Finish::Stop => Ok("stop"),
        Finish::Length => Ok("length"),
        Finish::Failed(error) => Err(Error::from(error)),
    }
}
