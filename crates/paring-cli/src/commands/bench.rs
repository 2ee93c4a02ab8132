//! Measures how fast a device is, and checks its results.

use std::time::{Duration, Instant};

use paring::bench::{self, Agreement, Bench, BenchOptions, Measurement, Rates, SHAPES, Shapes, Skipped};
use paring::request::open_device;
use paring_kernels::device;
use serde_json::json;

use crate::args::BenchArgs;
use crate::machine;
use crate::show::{Answer, Failure};
use paring::report::words::plural;

pub fn bench(args: &BenchArgs) -> Result<Answer, Failure> {
    let start = Instant::now();
    let nothing = args.ops.iter().any(|name| name == "none");
    let budget = Duration::from_secs(u64::from(args.seconds));
    let options = |shapes| BenchOptions {
        operations: args.ops.clone(),
        shapes,
        // What the cases took counts too.
        budget: budget.saturating_sub(start.elapsed()),
    };
    machine::threads(None, args.place.isa.as_deref())?;
    if !nothing {
        options(&SHAPES[0]).check()?;
    }
    let device = open_device(args.place.device)?;
    let name = device::name(&device)?;
    let mut lines = vec![name.clone()];
    let mut value = json!({ "device": name });
    if args.check {
        let found = bench::check(&device, args.golden.as_deref())?;
        lines.extend(checked(&found));
        value["check"] = json!(found);
        if let Some(first) = found.failed.first() {
            let text = format!("{} failed, such as {first}", plural(found.failed.len(), "case"));
            return Err(Failure::new(&text, crate::FAILED).after(Answer::new(&value)?.whole_lines(lines)));
        }
    }
    let usual: &[&str] = if device.is_cpu() { &["small"] } else { &["llama-7b", "llama-3-8b"] };
    let wanted = |shapes: &&Shapes| match args.shapes.is_empty() {
        true => usual.contains(&shapes.name),
        false => args.shapes.iter().any(|name| name == shapes.name),
    };
    let mut benches = Vec::new();
    for shapes in SHAPES.iter().filter(wanted).filter(|_| !nothing) {
        let made = bench::run(&device, &options(shapes))?;
        lines.extend(table(&made));
        benches.push(made);
    }
    let failed: Vec<&Skipped> = benches.iter().flat_map(|made| &made.skipped).filter(|s| s.failed).collect();
    value["benches"] = json!(benches);
    let answer = Answer::new(&value)?.whole_lines(lines);
    match failed.first() {
        None => Ok(answer),
        Some(Skipped { operation, shape: [rows, cols], reason, .. }) => {
            let count = plural(failed.len(), "operation");
            let text = format!("{count} failed, such as {operation} {rows} x {cols}: {reason}");
            Err(Failure::new(&text, crate::FAILED).after(answer))
        }
    }
}

/// The results of the cases.
fn checked(found: &Agreement) -> Vec<String> {
    let Agreement { operations, operation_ties, layers, layer_ties, elements, failed } = found;
    let mut lines = vec![format!(
        "{} of {} cases hold: {operations} of operations with {operation_ties} ties, {layers} layers of {elements} \
        weights with {layer_ties} ties",
        operations + layers - failed.len(),
        operations + layers,
    )];
    lines.extend(failed.iter().map(|what| format!("failed: {what}")));
    lines
}

/// Markdown.
fn table(bench: &Bench) -> Vec<String> {
    let Rates { copy, f32, bf16 } = bench.rates;
    let mut lines = vec![
        String::new(),
        format!(
            "{}: at best copies {:.0} GB/s, products {:.0} (f32) and {:.0} (bf16) GFLOP/s, {:.1} s",
            bench.shapes,
            copy / 1e9,
            f32 / 1e9,
            bf16 / 1e9,
            bench.seconds
        ),
        String::new(),
        "| operation | shape | ms | floor ms | ratio | rate | at best |".to_string(),
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |".to_string(),
    ];
    let row = |measured: &Measurement| {
        let Measurement { operation, shape: [rows, cols], seconds, floor, ratio, rate, rate_of, .. } = measured;
        let (ms, floor, unit) = (seconds * 1e3, floor * 1e3, if *rate_of == "bytes" { "GB/s" } else { "GFLOP/s" });
        let (rate, best) = (rate / 1e9, rate * ratio / 1e9);
        format!("| {operation} | {rows} x {cols} | {ms:.3} | {floor:.3} | {ratio:.1} | {rate:.1} {unit} | {best:.1} |")
    };
    let left_out = |skipped: &Skipped| {
        let Skipped { operation, shape: [rows, cols], reason, failed } = skipped;
        let what = if *failed { "failed" } else { "skipped" };
        format!("| {operation} | {rows} x {cols} | {what}: {reason} | | | | |")
    };
    lines.extend(bench.measured.iter().map(row));
    lines.extend(bench.skipped.iter().map(left_out));
    lines
}
