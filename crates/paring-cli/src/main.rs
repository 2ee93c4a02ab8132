//! The `paring` command: parse, run one function per command, exit code.

mod args;
mod commands;
mod demo;
mod open;
mod page;
mod progress;
mod show;
mod stop;

use std::process::ExitCode;

use args::Command;

/// Keeps the peak of a long run where that of a short one is.
#[global_allocator]
static ALLOCATOR: paring_kernels::memory::Reusing = paring_kernels::memory::Reusing;

/// Exit code of a run that failed.
const FAILED: u8 = 1;
/// Exit code of a command line that makes no sense.
const MISUSE: u8 = 2;

fn main() -> ExitCode {
    // What the libraries have to tell those who look for a fault: PARING_LOG=debug.
    let filter = tracing_subscriber::EnvFilter::from_env("PARING_LOG");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match args::parse(std::env::args_os()).and_then(|cli| run(&cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(&error.to_string()));
            let misuse = matches!(error, paring::Error::Misuse(_));
            ExitCode::from(if misuse { MISUSE } else { FAILED })
        }
    }
}

fn run(command: &Command) -> paring::Result<()> {
    match command {
        Command::Sparsify(args) => commands::sparsify(args),
        Command::Quantize(args) => commands::quantize(args),
        Command::Eval(args) => commands::eval(args),
        Command::Inspect(args) => commands::inspect(args),
        Command::Verify(args) => commands::verify(args),
        Command::Decompress(args) => commands::decompress(args),
        Command::Convert(args) => commands::convert(args),
        Command::Report(args) => commands::report(args),
        Command::Schemes(args) => commands::schemes(args),
        Command::Layer(args) => commands::layer(args),
        Command::Bench(args) => commands::bench(args),
        Command::Completions(args) => commands::completions(args),
        Command::Man(args) => commands::man(args),
    }
}

/// Errors of libraries below may span lines; ours is one.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
