//! `finetune`: a model or an adapter is trained.

use paring::report::progress::Observer;

use crate::args::{FinetuneArgs, Shared};
use crate::machine;
use crate::progress::{Log, Part, Progress};
use crate::show::{self, Answer, Failure};

pub fn finetune(args: &FinetuneArgs, shared: &Shared, log: &Log) -> Result<Answer, Failure> {
    let threads = machine::threads(args.threads, args.isa.as_deref())?;
    let mut progress = Progress::new(shared.channels(), args.verbose, log);
    threads.iter().for_each(|note| progress.note(note));
    let ready = args.request(shared).prepare(&mut progress)?;
    ready.notes().for_each(|note| progress.note(&note));
    ready.remarks().iter().for_each(|remark| progress.say(remark));
    if args.dry_run {
        let costs = ready.costs()?;
        progress.done();
        return Ok(Answer::new(&costs)?.lines(show::training::estimate(&costs)));
    }
    progress.stop_on_signals(Part::STEP)?;
    let report = ready.run(&mut progress).map_err(|error| progress.failure(error))?;
    progress.done();
    let answer = Answer::new(&report)?.lines(show::training::outcome(&report));
    log.result(answer.value());
    Ok(answer)
}
