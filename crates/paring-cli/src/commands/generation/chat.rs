//! A conversation in the terminal.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;

use paring::{Error, Result};
use paring_generate::conversation::Turn;
use paring_generate::{Batch, Conversation, Limits, Sequence, Settings};
use serde_json::{Value, json};

use super::{Made, Opened, open, prompts};
use crate::args::{ChatArgs, Shared};
use crate::progress::Log;
use crate::show::paint;
use crate::show::{Answer, Failure};
use crate::stderr;

/// Words that end the conversation, and that begin another one.
const EXIT: &str = "/exit";
const CLEAR: &str = "/clear";

/// A conversation at work.
struct Talk<'a> {
    opened: &'a Opened<'a>,
    settings: Settings,
    conversation: Conversation,
    is_terminal: bool,
    is_verbose: bool,
    shifts: bool,
    /// The answers so far, for programs.
    turns: Vec<Value>,
}

pub fn chat(args: &ChatArgs, shared: &Shared, log: &Log) -> Result<Answer, Failure> {
    let asked = args.settings.choices(None);
    Settings::resolve(&asked, &Default::default())?;
    let opened = open(&args.model, &args.memory, (shared, log))?;
    let settings = opened.settings(&asked, true)?;
    opened.note(args.settings.without_effect(None, (settings.do_sample, false)));
    let (engine, tokenizer) = (opened.generator.engine.clone(), Arc::clone(&opened.generator.tokenizer));
    let conversation = Conversation::new(engine, tokenizer, args.system.as_deref(), args.context_shift);
    let is_terminal = std::io::stdin().is_terminal();
    let (is_verbose, shifts) = (args.memory.running.verbose, args.context_shift);
    let mut talk = Talk { opened: &opened, settings, conversation, is_terminal, is_verbose, shifts, turns: Vec::new() };
    if is_terminal && opened.is_loud {
        stderr::line(format!("{EXIT} ends the conversation, {CLEAR} begins another one, ctrl-C stops an answer"));
    }
    let ended = talk.run();
    let value = opened.told(json!({"turns": talk.turns}));
    log.result(&value);
    let answer = Answer::new(&value)?;
    match ended {
        Ok(()) => Ok(answer),
        Err(error) => Err(talk.failure(error).after(answer)),
    }
}

impl Talk<'_> {
    /// The failure of a turn, with what to do where the context is full.
    fn failure(&self, error: Error) -> Failure {
        match &error {
            Error::Generate(full) if full.is_context() && !self.shifts => {
                let text = format!("{}; --context-shift forgets the oldest turns", crate::typed(&error));
                Failure::new(&text, crate::FAILED)
            }
            _ => error.into(),
        }
    }

    fn run(&mut self) -> Result<()> {
        let mut line = Vec::new();
        let mut stdin = std::io::stdin().lock();
        loop {
            if self.is_terminal {
                stderr::text("> ");
            }
            let read =
                stdin.read_until(b'\n', &mut line).map_err(|source| Error::Io { path: "stdin".into(), source })?;
            if read == 0 {
                break;
            }
            let text = prompts::utf8(std::mem::take(&mut line), "a line of stdin")?;
            match text.trim() {
                "" => {}
                EXIT => return Ok(()),
                CLEAR => self.conversation.clear(),
                text => self.turn(text)?,
            }
        }
        if self.is_terminal {
            stderr::text("\n");
        }
        Ok(())
    }

    /// Answers a line.
    fn turn(&mut self, text: &str) -> Result<()> {
        let Turn { request, dropped } = match self.conversation.ask(text, &self.settings) {
            Ok(turn) => turn,
            // A person can begin another conversation.
            Err(error) if error.is_context() && self.is_terminal => {
                let error = Error::from(error);
                paint::error(&format!("{}; {CLEAR} begins another conversation", crate::typed(&error)), None);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let dropped_note = format!("the context is full: the oldest {dropped} messages are forgotten");
        self.opened.note((dropped > 0).then_some(dropped_note));
        let prompt_tokens = request.prompt.len();
        let generator = &self.opened.generator;
        let mut batch = Batch::new(generator.engine.clone(), Some(generator.tokenizer.clone()), Limits::default());
        let id = batch.add(request)?;
        let mut made = Made { prompt_tokens, ..Made::default() };
        let mut seen: Option<Sequence> = None;
        self.opened.interrupt.begin();
        while !batch.is_idle() {
            if self.opened.interrupt.is_asked() {
                made.reason = "interrupted";
                seen = batch.cancel(id);
                break;
            }
            for event in batch.step()? {
                self.opened.print(&event.text)?;
                seen = made.take(event)?;
            }
        }
        self.opened.interrupt.end();
        self.opened.print("\n")?;
        let mut value = made.value(&self.settings);
        value["cached_tokens"] = json!(prompt_tokens - made.timing.prompt_tokens.min(prompt_tokens));
        self.turns.push(value);
        if self.is_verbose && self.opened.is_loud {
            stderr::line(self.opened.rates(&made.timing, made.tokens.len()));
        }
        // Another answer draws other numbers.
        self.settings.seed = self.settings.seed.wrapping_add(1);
        self.conversation.answered(&made.text, seen);
        Ok(())
    }
}
