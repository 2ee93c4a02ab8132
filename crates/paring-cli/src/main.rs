//! The `paring` command: parse, run one function per command, exit code.

mod args;
mod commands;
mod demo;
mod machine;
mod page;
mod progress;
mod show;
mod stderr;

use std::process::ExitCode;

use args::{Cli, Command, Shared};
use paring_data::worker;
use paring_kernels::allocator::ProgramAllocator;
use progress::Log;
use show::terminal::Printable;
use show::{Answer, Channels, Failure};

/// Keeps the peak of a long run where that of a short one is, and says so where there is no more memory.
#[global_allocator]
static ALLOCATOR: ProgramAllocator = ProgramAllocator::new(
    "what is finished stays, and the command of a run continues with --resume; fewer --threads or --offload activations take less",
);

/// Exit code of a run that failed.
const FAILED: u8 = 1;
/// Exit code of a command line that makes no sense.
const MISUSE: u8 = 2;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == worker::ARGUMENT) {
        worker::main();
    }
    progress::survive_limits();
    // What the libraries have to tell those who look for a fault: PARING_LOG=debug.
    let filter = tracing_subscriber::EnvFilter::try_from_env("PARING_LOG").unwrap_or_default();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(|| Printable).init();
    match args::parse(std::env::args_os()) {
        Ok(cli) => logged(&cli),
        Err(error) => ended(error.into(), Shared::of_words(std::env::args_os()).channels(), &Log::nowhere()),
    }
}

/// Runs a command, with what happens in its log if it has one, and prints its result.
fn logged(cli: &Cli) -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().map(|text| text.to_string_lossy().into_owned()).collect();
    let channels = cli.shared.channels();
    let log = match Log::open(cli.command.log_json(), &arguments) {
        Ok(log) => log,
        Err(error) => return ended(error.into(), channels, &Log::nowhere()),
    };
    let printed = run(cli, &log).and_then(|answer| Ok(answer.print(channels, log.is_on_stderr())?));
    match printed {
        Ok(()) => {
            log.ended(None);
            ExitCode::SUCCESS
        }
        Err(failure) => ended(failure, channels, &log),
    }
}

/// Ends a command that failed.
fn ended(mut failure: Failure, channels: Channels, log: &Log) -> ExitCode {
    failure.print_results(channels, log.is_on_stderr());
    log.ended(Some((&failure.text(), failure.code)));
    failure.print_error();
    ExitCode::from(failure.code)
}

fn run(cli: &Cli, log: &Log) -> Result<Answer, Failure> {
    let shared = &cli.shared;
    match &cli.command {
        Command::Sparsify(args) => commands::sparsify(args, shared, log),
        Command::Quantize(args) => commands::quantize(args, shared, log),
        Command::Finetune(args) => commands::finetune(args, shared, log),
        Command::Eval(args) => commands::eval(args, shared, log),
        Command::Generate(args) => commands::generate(args, shared, log),
        Command::Chat(args) => commands::chat(args, shared, log),
        Command::Serve(args) => commands::serve(args, shared, log),
        Command::Tokens(args) => commands::tokens(args, shared),
        Command::Inspect(args) => commands::inspect(args, shared),
        Command::Verify(args) => commands::verify(args, shared, log),
        Command::Decompress(args) => commands::decompress(args, shared, log),
        Command::Merge(args) => commands::merge(args, shared, log),
        Command::Convert(args) => commands::convert(args, shared, log),
        Command::ExportMasks(args) => commands::export_masks(args, shared, log),
        Command::Report(args) => commands::report(args),
        Command::Rouge(args) => commands::rouge(args),
        Command::Schemes(args) => commands::schemes(args),
        Command::Tasks(args) => commands::tasks(args),
        Command::Layer(args) => commands::layer(args),
        Command::Bench(args) => commands::bench(args),
        Command::Completions(args) => commands::completions(args),
        Command::Man(args) => commands::man(args),
    }
}

/// An error with options as they are typed.
fn typed(error: &paring::Error) -> String {
    error.message().spelled(option)
}

/// An option as it is typed.
fn option(name: &str) -> String {
    format!("--{name}")
}
