//! The commands with what the derived ones leave open: examples, the last line of the short help, and the version.

use std::sync::LazyLock;

use clap::CommandFactory;
use paring_kernels::matmul;

use super::Cli;

/// Examples of each command, from the most usual one.
const EXAMPLES: [(&str, &[&str]); 23] = [
    (
        "paring",
        &[
            "paring quantize demo -o demo-4bit",
            "paring eval demo-4bit demo",
            "paring quantize HuggingFaceTB/SmolLM2-135M notes.txt --nsamples 16",
            "paring help quantize",
        ],
    ),
    (
        "quantize",
        &[
            "paring quantize demo -o demo-4bit --eval demo",
            "paring quantize HuggingFaceTB/SmolLM2-135M notes.txt --nsamples 16",
            "paring quantize ./llama wikitext2 --scheme W4A16 --strict -o llama-w4",
            "paring quantize ./llama --scheme FP8_DYNAMIC -o llama-fp8",
            "paring quantize ./llama notes.txt --wbits 3 --groupsize 64 --actorder static",
            "paring quantize ./llama notes.txt --target-bits 4",
            "paring quantize ./llama notes.txt --config recipe.toml -o out --resume",
        ],
    ),
    (
        "prune",
        &[
            "paring prune demo --pattern 2:4 -o demo-2of4",
            "paring prune ./llama notes.txt --method wanda --sparsity 0.5 -o out",
            "paring prune ./llama notes.txt --pattern 2:4 --wbits 4 --groupsize 64",
        ],
    ),
    (
        "finetune",
        &[
            "paring finetune demo-2of4 demo --teacher demo --steps 50 -o demo-tuned",
            "paring finetune ./pruned news.jsonl --teacher ./llama -o tuned --dry-run",
            "paring finetune ./llama-w4 chats.jsonl --lora r=16,alpha=32 -o adapter",
        ],
    ),
    (
        "eval",
        &[
            "paring eval ./llama test.txt --seqlen 2048 --limit 10 --json",
            "paring eval ./llama --tasks piqa,arc_easy --limit 200",
        ],
    ),
    (
        "generate",
        &[
            "paring generate demo --prompt \"a man\"",
            "paring generate out --prompt \"The capital of France is\" --temperature 0 -n 30",
            "paring generate out --chat --prompt \"Why is the sky blue?\" --temperature 0.7",
            "paring generate out --prompt-file questions.jsonl --chat > answers.jsonl",
        ],
    ),
    ("chat", &["paring chat out", "paring chat out --system \"Be brief.\" --context-shift"]),
    (
        "serve",
        &["paring serve out --port 8080", "PARING_API_KEY=secret paring serve out --host 0.0.0.0 --max-batch 16"],
    ),
    (
        "report",
        &[
            "paring report out",
            "paring report out-a out-b --html differences.html",
            "paring report out --tensorboard runs --wandb wandb",
        ],
    ),
    (
        "rouge",
        &[
            "paring rouge answers.jsonl references.jsonl",
            "paring rouge answers.jsonl test.jsonl --reference-field highlights",
        ],
    ),
    ("inspect", &["paring inspect out", "paring inspect out --outliers outliers.svg"]),
    ("verify", &["paring verify out", "paring verify out --reference ./llama --data test.txt --max-kl 0.1"]),
    ("tokens", &["paring tokens ./llama chats.jsonl --text-field messages", "paring tokens demo --limit 1 --json"]),
    (
        "merge",
        &["paring merge ./llama adapter -o merged", "paring merge pruned adapter --masks keep --dry-run -o merged"],
    ),
    (
        "convert",
        &[
            "paring convert ./llama --format int-quantized -o out",
            "paring convert out --format pack-quantized --group group_0 -o packed",
        ],
    ),
    ("decompress", &["paring decompress out -o dense"]),
    (
        "export-masks",
        &[
            "paring export-masks pruned -o masks.safetensors",
            "paring prune ./llama --method magnitude --masks masks.safetensors -o masked",
        ],
    ),
    ("schemes", &["paring schemes", "paring schemes W4A16"]),
    ("tasks", &["paring tasks", "paring tasks mmlu_stem"]),
    ("layer", &["paring layer layer.safetensors --method gptq --wbits 4 -o made.safetensors"]),
    ("bench", &["paring bench", "paring bench --device cuda:0 --check --ops sweep,factor"]),
    (
        "completions",
        &[
            "paring completions bash > ~/.local/share/bash-completion/completions/paring",
            "paring completions zsh > \"${fpath[1]}/_paring\"",
            "paring completions fish > ~/.config/fish/completions/paring.fish",
        ],
    ),
    ("man", &["paring man quantize | man -l -", "paring man -o ~/.local/share/man/man1"]),
];

/// The number of the version, what it was built with, and the instructions it uses.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let built = if cfg!(feature = "cuda") { "cuda" } else { "cpu" };
    let instructions = matmul::arithmetic().unwrap_or_default();
    let instructions = instructions.split_whitespace().next().map_or(String::new(), |name| format!(", {name}"));
    format!("{} ({built}{instructions})", env!("CARGO_PKG_VERSION"))
});

/// The commands and their options.
pub fn command() -> clap::Command {
    described(Cli::command()).version(VERSION.as_str()).propagate_version(true).mut_subcommands(described)
}

/// A command with its examples.
fn described(command: clap::Command) -> clap::Command {
    let name = command.get_name().to_string();
    let Some((_, examples)) = EXAMPLES.iter().find(|(of, _)| *of == name) else { return command };
    let title = if examples.len() == 1 { "Example" } else { "Examples" };
    let examples = format!("{title}:\n  {}", examples.join("\n  "));
    let more = match name.as_str() {
        "paring" => "`paring COMMAND --help` has all options and examples of a command.".to_string(),
        name => format!("`paring {name} --help` has all options and examples."),
    };
    command.after_help(more).after_long_help(examples)
}
