//! The end of a run: what was made, and what to do with it.

use std::path::Path;

use paring::plan::compatibility::{Loader, Verdict};
use paring::report::names::REPORT_PAGE;
use paring::report::{Report, quoted, words};

use super::amounts::{seconds, size};
use super::tasks;
use paring::report::words::plural;

/// Facts about a run's input and output that its report does not have.
pub struct Made {
    /// The verdicts of the programs that load checkpoints.
    pub loaders: [(Loader, Verdict); 2],
    /// True if the input was quantized.
    pub from_quantized: bool,
}

/// A run that is done, in a few lines.
pub fn outcome(report: &Report, made: &Made) -> Vec<String> {
    let mut lines = vec![headline(report), bits(report)];
    lines.extend(report.tasks.iter().flat_map(tasks::changed));
    let out = Path::new(&report.out);
    let shell = |path: &Path| quoted(&[path.display().to_string()]);
    let folder = format!("{}/", shell(out).trim_end_matches('/'));
    lines.extend(trained(report));
    lines.push(format!("  model    {folder}  (checked: every tensor reads back as computed)"));
    lines.push(format!("  report   {}", shell(&out.join(REPORT_PAGE))));
    lines.extend(trial(report, made));
    if made.from_quantized {
        lines.push(
            "note: the input is quantized already: perplexity before and errors are those of its decoded weights"
                .into(),
        );
    }
    // A share below one in a hundred is norms and files.
    if report.is_pruned() && report.bytes_out as f64 > 0.99 * report.bytes_in as f64 {
        lines.push(
            "note: zeros are stored like other weights, so the size is unchanged, and vLLM and transformers run the model \
             no faster. For a smaller model add --wbits 4, or run paring quantize on the result"
                .into(),
        );
    }
    lines
}

/// `4-bit GPTQ: 269 MB → 113 MB, perplexity 17.8 → 23.2, 39 s, 252 MiB`.
fn headline(report: &Report) -> String {
    let mut parts = vec![format!("{} → {}", size(report.bytes_in), size(report.bytes_out))];
    if report.is_pruned() {
        parts.push(format!("{:.1} % zeros", 100.0 * report.sparsity));
    }
    if let Some(change) = &report.perplexity {
        parts.push(format!("perplexity {} → {}", perplexity(change.before), perplexity(change.after)));
    }
    let place = if report.place.device == "cpu" { String::new() } else { format!(" on {}", report.place.words()) };
    parts.push(format!("{}{place}", seconds(report.seconds)));
    parts.push(report.place.memory(report.peak_rss_mib));
    format!("{}: {}", words::scheme(report), parts.join(", "))
}

/// The change of the blocks' errors.
fn trained(report: &Report) -> Option<String> {
    let better = report.blocks.iter().filter(|block| block.kept > 0).count();
    let shares: Vec<f64> = report.blocks.iter().map(|block| block.after / block.before).collect();
    let known: Vec<f64> = shares.iter().copied().filter(|share| share.is_finite()).collect();
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let count = plural(report.blocks.len(), "block");
    let share = if known.is_empty() { String::new() } else { format!(" to {:.0} % on average", 100.0 * mean) };
    (!report.blocks.is_empty()).then(|| format!("  blocks   {better} of {count} trained, their error{share}"))
}

/// The bits that are stored for a weight of the compressed linears.
fn bits(report: &Report) -> String {
    let outliers = match report.outlier_share {
        0.0 => String::new(),
        share => format!(", {:.2} % outliers", 100.0 * share),
    };
    let (before, after) = (report.bits_before, report.bits_per_weight);
    let linears = plural(report.layers.len(), "linear");
    format!("  bits     {before:.2} → {after:.2} per weight in {linears}{outliers}")
}

/// Bits, size and perplexity before and after.
pub fn table(report: &Report) -> Vec<String> {
    let mut rows = vec![
        format!("{:<22} {:>10} {:>10}", report.method, "before", "after"),
        format!("{:<22} {:>10.2} {:>10.2}", "bits per weight", report.bits_before, report.bits_per_weight),
    ];
    if let (Some(formula), Some(published)) = (report.formula_bits, report.published_bits) {
        rows.push(format!("{:<22} {:>10} {:>10.2}", "  by counting", "", formula));
        rows.push(format!("{:<22} {:>10} {:>10.2}", "  by SpQR's formula", "", published));
        rows.push(format!("{:<22} {:>10} {:>9.2}%", "outliers", "", 100.0 * report.outlier_share));
    }
    if report.is_pruned() {
        rows.push(format!("{:<22} {:>10} {:>9.1}%", "zeros", "", 100.0 * report.sparsity));
    }
    rows.push(format!("{:<22} {:>10} {:>10}", "size", size(report.bytes_in), size(report.bytes_out)));
    if let Some(change) = &report.perplexity {
        rows.push(format!("{:<22} {:>10.3} {:>10.3}", "perplexity", change.before, change.after));
    }
    for (before, after) in report.tasks.iter().flat_map(|tasks| tasks.shown()) {
        for (old, new) in before.metrics.iter().zip(&after.metrics) {
            let name = format!("{} {}", after.task, new.metric);
            rows.push(format!("{name:<22} {:>10}   {}", tasks::with_error(old), tasks::with_error(new)));
        }
    }
    rows
}

/// A run that is done and was looked up, in a sentence.
pub fn sentence(report: &Report) -> String {
    format!(
        "{} compressed in {} on {}, peak memory {}; saved in {} and checked",
        plural(report.layers.len(), "linear"),
        seconds(report.seconds),
        report.place.words(),
        report.place.memory(report.peak_rss_mib),
        report.out
    )
}

/// Three digits that count, and at least those before the point.
pub fn perplexity(number: f64) -> String {
    match number {
        n if n < 10.0 => format!("{n:.2}"),
        n if n < 100.0 => format!("{n:.1}"),
        n if n < 1e6 => format!("{n:.0}"),
        n => format!("{n:.1e}"),
    }
}

/// Commands that run the output, for the programs that do.
fn trial(report: &Report, made: &Made) -> Vec<String> {
    let folder = quoted(std::slice::from_ref(&report.out));
    let command = |loader: Loader| match loader {
        Loader::Vllm => format!("vllm serve {folder}"),
        Loader::Transformers => format!("AutoModelForCausalLM.from_pretrained({:?})", report.out),
    };
    let mut everywhere = Vec::new();
    let mut somewhere = Vec::new();
    // vLLM first, which serves.
    for (loader, verdict) in made.loaders.iter().rev() {
        match verdict {
            Verdict::Runs(_) => everywhere.push(command(*loader)),
            Verdict::Limited(place) => somewhere.push(format!("{}  (only {place})", command(*loader))),
            Verdict::Refused(_) => {}
        }
    }
    let mut lines: Vec<String> = Vec::new();
    if !everywhere.is_empty() {
        lines.push(everywhere.join("  or  "));
    }
    lines.extend(somewhere);
    if lines.is_empty() {
        lines.push(format!("paring eval {folder} TEXT  (only paring runs this format)"));
        lines.push(format!("paring decompress {folder} --out DENSE  makes a plain model for vLLM and transformers"));
    }
    let label = |i: usize| if i == 0 { "try it" } else { "" };
    lines.iter().enumerate().map(|(i, line)| format!("  {:<6}   {line}", label(i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/report.json");
        Report { out: "w4".into(), ..Report::read(&path).unwrap() }
    }

    fn loaders(transformers: Verdict, vllm: Verdict) -> Made {
        Made { loaders: [(Loader::Transformers, transformers), (Loader::Vllm, vllm)], from_quantized: false }
    }

    #[test]
    fn a_run_ends_with_what_to_do_next() {
        let runs = || Verdict::Runs("there".into());
        let report = report();
        let lines = outcome(&report, &loaders(runs(), runs()));
        assert!(lines[0].ends_with("4.00 MB → 1.00 MB, perplexity 8.00 → 8.50, 1 h 7 min on cuda:0 (A \"card\" of 80 GB), 512 MiB and 20480 MiB on the GPU"), "{}", lines[0]);
        assert_eq!(
            lines[1..],
            [
                "  bits     16.00 → 4.50 per weight in 5 linears, 1.56 % outliers",
                "  model    w4/  (checked: every tensor reads back as computed)",
                "  report   w4/report.html",
                "  try it   vllm serve w4  or  AutoModelForCausalLM.from_pretrained(\"w4\")",
            ]
        );
        let limited = outcome(&report, &loaders(runs(), Verdict::Limited("on Mars".into())));
        assert_eq!(
            limited[4..],
            ["  try it   AutoModelForCausalLM.from_pretrained(\"w4\")", "           vllm serve w4  (only on Mars)"]
        );
        let refused = || Verdict::Refused("too small".into());
        let alone = outcome(&Report { out: "my w4".into(), ..report.clone() }, &loaders(refused(), refused()));
        assert_eq!(
            alone[2..],
            [
                "  model    'my w4'/  (checked: every tensor reads back as computed)",
                "  report   'my w4/report.html'",
                "  try it   paring eval 'my w4' TEXT  (only paring runs this format)",
                "           paring decompress 'my w4' --out DENSE  makes a plain model for vLLM and transformers",
            ]
        );
    }

    #[test]
    fn zeros_are_mentioned_where_weights_were_removed() {
        let runs = || Verdict::Runs("there".into());
        let mut report = report();
        assert!(!outcome(&report, &loaders(runs(), runs())).join("").contains("zeros"));
        report.plan["recipe"]["pattern"] = serde_json::json!({"nof_m": {"keep": 2, "of": 4}});
        let smaller = outcome(&report, &loaders(runs(), runs()));
        assert!(smaller[0].contains("12.5 % zeros") && smaller.len() == 5, "{smaller:?}");
        report.bytes_out = report.bytes_in;
        let as_large = outcome(&report, &loaders(runs(), runs()));
        assert!(as_large[5].starts_with("note: zeros are stored like other weights"), "{as_large:?}");
        let again = outcome(&report, &Made { from_quantized: true, ..loaders(runs(), runs()) });
        assert!(again[5].starts_with("note: the input is quantized already"), "{again:?}");
    }

    #[test]
    fn perplexities_have_three_digits() {
        for (number, want) in [(4.778, "4.78"), (17.84, "17.8"), (123.4, "123"), (98765.4, "98765"), (3e9, "3.0e9")] {
            assert_eq!(perplexity(number), want);
        }
    }
}
