use std::collections::{BTreeMap, BTreeSet};

use paring::plan::Opt;

use super::headings::*;

/// The commands, built: with the options that all have.
fn built() -> clap::Command {
    let mut program = super::command().term_width(100);
    program.build();
    program
}

#[test]
fn options_that_libraries_name_can_be_typed() {
    let program = built();
    let longs = program.get_subcommands().flat_map(|command| command.get_arguments()).filter_map(|arg| arg.get_long());
    let longs: BTreeSet<&str> = longs.collect();
    let unknown: Vec<&str> = Opt::ALL.iter().map(|option| option.name()).filter(|name| !longs.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The heading of each option; options of several commands may have several.
const HEADINGS: [(&str, &[&str]); 29] = [
    (
        WHAT,
        &["scheme", "wbits", "groupsize", "sym", "method", "target-bits", "pattern", "sparsity", "config", "kv-cache"],
    ),
    // Of layer, convert, merge and bench.
    (
        WHAT,
        &[
            "masks",
            "published",
            "allocate",
            "mask",
            "mask-only",
            "masks",
            "refit",
            "sequences",
            "format",
            "group",
            "check",
            "golden",
            "ops",
            "shapes",
            "seconds",
        ],
    ),
    (
        OUTPUT,
        &[
            "out",
            "overwrite",
            "format",
            "resume",
            "checkpoint-every",
            "allow-mixed-arithmetic",
            "resumable",
            "dry-run",
            "strict",
        ],
    ),
    // Of inspect and report.
    (OUTPUT, &["outliers", "module", "verbose", "html", "tensorboard", "wandb"]),
    (DATA, &["nsamples", "seqlen", "seed", "text-field", "data-dir"]),
    // Of tokens.
    (DATA, &["limit"]),
    // Of finetune.
    (
        TRAINING,
        &[
            "lora",
            "masks",
            "epochs",
            "steps",
            "batch-size",
            "learning-rate",
            "lr-scheduler",
            "warmup-steps",
            "weight-decay",
            "max-grad-norm",
            "seed",
        ],
    ),
    (LOSS, &["teacher", "ce-weight", "kl-weight", "temperature", "squarehead-weight"]),
    (DATA, &["form", "packing"]),
    (EVALUATION, &["hold-out", "eval-every"]),
    (MODEL, &["lenient", "adapter"]),
    (LAYERS, &["include", "ignore", "layers"]),
    (EVALUATION, &["eval", "limit", "eval-protocol", "new-eval", "seqlen", "weight-only", "text-field", "data-dir"]),
    // Of tasks, in runs.
    (EVALUATION, &["task-file", "num-fewshot"]),
    (TASKS, &["tasks", "task-file", "num-fewshot", "log-samples", "overwrite", "dry-run"]),
    (SUMMARIES, &["num-beams", "min-new-tokens", "max-new-tokens", "max-prompt-tokens", "instruction", "seed"]),
    (TASKS, &["add-bos-token", "prefix-token", "bootstrap-iters"]),
    (
        COMPARISON,
        &[
            "reference",
            "data",
            "tokens",
            "seqlen",
            "max-kl",
            "min-top1",
            "max-perplexity-ratio",
            "text-field",
            "data-dir",
        ],
    ),
    // Of rouge.
    (COMPARISON, &["field", "reference-field", "no-stemmer", "split-sentences", "line-breaks"]),
    // Of generate and chat.
    (PROMPT, &["prompt", "prompt-file", "chat", "system", "context-shift"]),
    (ANSWER, &["max-new-tokens", "min-new-tokens", "stop"]),
    (SAMPLING, &["temperature", "top-k", "top-p", "min-p", "seed", "repetition-penalty", "no-repeat-ngram-size"]),
    (SERVER, &["port", "host", "allow-open", "name"]),
    (LIMITS, &["max-batch", "max-queue", "max-new-tokens", "max-cached-tokens", "max-connections", "max-body"]),
    (BEAMS, &["num-beams", "length-penalty", "early-stopping"]),
    (
        SPEED,
        &["device", "isa", "threads", "dtype", "max-vram", "offload", "gram-precision", "skip-out-loss", "kv-cache"],
    ),
    (
        GPTQ,
        &[
            "actorder",
            "percdamp",
            "blocksize",
            "scales",
            "mse",
            "static-groups",
            "perchannel",
            "true-sequential",
            "dense-stream",
            "reconstruct",
            "reconstruct-steps",
            "allow-fallback",
        ],
    ),
    (
        SPQR,
        &[
            "qq-scale-bits",
            "qq-zero-bits",
            "qq-groupsize",
            "qq-zero-sym",
            "outlier-threshold",
            "outlier-share",
            "permutation-order",
            "simplified-outliers",
            "round-zero",
            "keep-last-columns",
        ],
    ),
    (GLOBAL, &["quiet", "json", "help", "version", "verbose", "log-json"]),
];

#[test]
fn options_stand_under_their_headings() {
    let mut allowed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (heading, options) in HEADINGS {
        for option in options {
            allowed.entry(option).or_default().insert(heading);
        }
    }
    for command in built().get_subcommands().filter(|command| command.get_name() != "help") {
        let name = command.get_name();
        // Options that are alike in all commands are so in the order of the headings.
        for arg in command.get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            let heading = arg.get_help_heading();
            let fits = heading.is_some_and(|heading| allowed.get(long).is_some_and(|all| all.contains(heading)));
            assert!(fits, "{name} --{long} stands under {heading:?}");
            assert!(
                arg.get_help().is_some_and(|help| !help.to_string().is_empty()),
                "{name} --{long} is not described"
            );
        }
    }
    let headings = |name: &str| {
        let program = built();
        let command = program.find_subcommand(name).unwrap();
        let mut seen: Vec<String> = Vec::new();
        for heading in
            command.get_arguments().filter(|arg| !arg.is_positional()).filter_map(|arg| arg.get_help_heading())
        {
            if !seen.iter().any(|known| known == heading) {
                seen.push(heading.to_string());
            }
        }
        seen
    };
    assert_eq!(headings("quantize"), [WHAT, OUTPUT, DATA, LAYERS, EVALUATION, SPEED, GPTQ, SPQR, MODEL, GLOBAL]);
}

#[test]
fn the_short_help_fits_a_screen() {
    let mut program = built();
    let own = std::iter::once(program.clone()).chain(program.get_subcommands_mut().map(|command| command.clone()));
    for mut command in own.filter(|command| command.get_name() != "help") {
        let short = command.render_help().to_string();
        let lines = short.trim_end().lines().count();
        assert!(lines <= 40, "{}: {lines} lines\n{short}", command.get_name());
        assert!(short.lines().all(|line| line.chars().count() <= 100), "{short}");
        let last = short.trim_end().lines().last().unwrap_or_default();
        assert!(last.contains("help"), "{}: {last}", command.get_name());
    }
}

#[test]
fn commands_have_two_names_where_people_know_two() {
    let program = built();
    let prune = program.find_subcommand("sparsify").unwrap();
    assert_eq!(prune.get_name(), "prune");
    assert!(prune.get_visible_aliases().any(|alias| alias == "sparsify"));
}
