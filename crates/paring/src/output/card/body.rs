//! The text of a card.

use std::fmt;

use paring_format::Scheme;
use paring_tasks::Metric;
use serde_json::Value;

use super::Origin;
use super::front::{Front, scheme_name};
use super::text::{last_part, markdown, without_place};
use crate::output::side_files::named_dtype;
use crate::plan::compatibility::{DEQUANTIZED, Linears, Loader, Verdict, verdict};
use crate::report::names::{CARD_CHART, REPORT};
use crate::report::{Report, TasksReport, quoted, words};

/// The program and its version, and where it comes from.
const PROGRAM: &str = concat!("paring ", env!("CARGO_PKG_VERSION"));

/// All that a card says below its metadata.
pub(super) struct Body<'a> {
    pub front: &'a Front,
    pub origin: &'a Origin<'a>,
    pub schemes: &'a [&'a Scheme],
    /// The config of the output.
    pub config: &'a Value,
    /// True if there is a chart.
    pub chart: bool,
}

impl fmt::Display for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.origin {
            Origin::Run(report) => report.plan.get("model").and_then(Value::as_str).map(last_part).unwrap_or_default(),
            Origin::Command(_, from) => last_part(from),
        };
        let name = self.front.base_model.as_deref().map_or(name, last_part);
        writeln!(f, "# {}{}\n", markdown(name), self.done())?;
        let base = match &self.front.base_model {
            // A name on the hub has no character that would end a link.
            Some(base) => format!("[{}](https://huggingface.co/{base})", markdown(base)),
            None => markdown(name),
        };
        match self.origin {
            Origin::Run(report) => {
                writeln!(f, "{base}, compressed by {PROGRAM}: {}.\n", markdown(&words::scheme(report)))?;
                self.numbers(report, f)?;
            }
            Origin::Command(done, _) => writeln!(f, "{base}, {} by {PROGRAM}.\n", markdown(done))?,
        }
        self.opening(f)?;
        if let Origin::Run(report) = self.origin
            && !report.command.is_empty()
        {
            writeln!(f, "## How it was made\n\n    {}\n", command(&report.command))?;
            writeln!(f, "Every setting, and the numbers of each layer, are in [{REPORT}]({REPORT}).\n")?;
        }
        self.limits(f)
    }
}

impl Body<'_> {
    /// Words for the title that tell the model from its base.
    fn done(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        for scheme in self.schemes {
            if let Some(name) = scheme.weights.as_ref().map(|weights| scheme_name(scheme, weights))
                && !names.contains(&name)
            {
                names.push(name);
            }
        }
        if let Origin::Run(report) = self.origin
            && report.is_pruned()
        {
            names.push(format!("{:.0} % pruned", 100.0 * report.sparsity));
        }
        names.iter().map(|name| format!(", {name}")).collect()
    }

    fn numbers(&self, report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | before | after |\n| --- | ---: | ---: |")?;
        writeln!(f, "| weights | {} | {} |", megabytes(report.bytes_in), megabytes(report.bytes_out))?;
        let linears = report.layers.len();
        let (before, after) = (report.bits_before, report.bits_per_weight);
        writeln!(f, "| bits per weight, in the {linears} compressed linears | {before:.2} | {after:.2} |")?;
        if report.is_pruned() {
            writeln!(f, "| zeros in them | | {:.1} % |", 100.0 * report.sparsity)?;
        }
        if let Some(measured) = report.perplexity.as_ref().filter(|p| p.before.is_finite() && p.after.is_finite()) {
            let data = markdown(last_part(&measured.dataset));
            let (before, after) = (measured.before, measured.after);
            let windows = format!("{} windows of {} tokens", measured.windows, measured.seqlen);
            writeln!(f, "| perplexity, {data}, {windows} | {before:.3} | {after:.3} |")?;
        }
        for (before, after) in report.tasks.iter().flat_map(TasksReport::shown) {
            let about = format!("{}-shot, {} documents", after.shots, after.documents);
            for (old, new) in before.metrics.iter().zip(&after.metrics) {
                let name = format!("{} {}", markdown(&after.task), markdown(&new.metric));
                writeln!(f, "| {name}, {about} | {} | {} |", metric(old), metric(new))?;
            }
        }
        writeln!(f)?;
        if let Some(data) = report.plan.get("dataset").and_then(Value::as_str) {
            let number = |key: &str| report.plan.get(key).and_then(Value::as_u64).unwrap_or_default();
            let (windows, tokens) = (number("nsamples"), number("seqlen"));
            writeln!(f, "Calibrated on {windows} windows of {tokens} tokens of {}.\n", markdown(last_part(data)))?;
        }
        if self.chart {
            writeln!(f, "![Error of each block]({CARD_CHART})\n")?;
            let what = "The error of a linear is that of its outputs on the calibration data, relative to the outputs.";
            writeln!(f, "{what}\n")?;
        }
        Ok(())
    }

    /// The programs that open it, each with its verdict.
    fn opening(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## Use\n\n| program | runs these weights |\n| --- | --- |")?;
        let verdicts = Loader::ALL.map(|loader| (loader, self.verdict(loader)));
        for (loader, verdict) in &verdicts {
            writeln!(f, "| {} | {} |", loader.releases(), markdown(&verdict.to_string()))?;
        }
        writeln!(f, "| {PROGRAM} | yes |\n")?;
        let runs = |at: usize| !matches!(verdicts[at].1, Verdict::Refused(_));
        if runs(0) {
            let is_dequantized = matches!(&verdicts[0].1, Verdict::Limited(on) if on == DEQUANTIZED);
            let (import, option) = if is_dequantized { DEQUANTIZING } else { ("", "") };
            writeln!(f, "{}", TRANSFORMERS.replace("{import}", import).replace("{option}", option))?;
        }
        if runs(1) {
            writeln!(f, "{VLLM}")?;
        }
        if !runs(0) || !runs(1) {
            writeln!(f, "`paring decompress` makes a plain model of it, for every other program.\n")?;
        }
        Ok(())
    }

    /// The verdict of a loader on the scheme that it likes least.
    fn verdict(&self, loader: Loader) -> Verdict {
        let dtype = named_dtype(self.config);
        let model_type = self.config.get("model_type").and_then(Value::as_str);
        let of = |scheme: &Scheme| {
            let layers = match self.origin {
                Origin::Run(report) => &report.layers[..],
                Origin::Command(..) => &[],
            };
            let of_scheme = layers.iter().filter(|layer| layer.format == scheme.format);
            let shapes: Vec<(usize, usize)> = of_scheme.map(|layer| (layer.rows, layer.cols)).collect();
            verdict(loader, scheme, &Linears { dtype, model_type, shapes: &shapes })
        };
        Verdict::worst(self.schemes.iter().map(|scheme| of(scheme))).unwrap_or_else(|| of(&Scheme::dense()))
    }

    fn limits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## Limits\n")?;
        let base = "What the base model cannot do or must not be used for holds for this one as well.";
        let license = match self.front.license() {
            Some(license) => format!("The base model's licence ({}) holds for this model too.", markdown(license)),
            None => "No licence was found beside the base model's weights: ask where it comes from.".to_string(),
        };
        writeln!(f, "- {base}\n- {license}")?;
        if let Origin::Run(report) = self.origin {
            let unmeasured = "Its quality was not measured when this was written.";
            let measured = "Perplexity is a rough measure: check the tasks that matter to you.";
            let is_measured = report.perplexity.is_some() || report.tasks.is_some();
            let words = match (&report.tasks, is_measured) {
                (Some(_), _) => "What these tasks do not ask was not measured.",
                (None, true) => measured,
                (None, false) => unmeasured,
            };
            writeln!(f, "- {words}")?;
            if report.is_pruned() && self.schemes.is_empty() {
                writeln!(
                    f,
                    "- Zeros are stored like other weights, so that the files are as large as the base model's."
                )?;
            }
        }
        Ok(())
    }
}

const TRANSFORMERS: &str = r#"```python
from transformers import AutoModelForCausalLM, AutoTokenizer{import}

folder = "."  # this folder, or its name on the hub
model = AutoModelForCausalLM.from_pretrained(folder{option})
tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = tokenizer("The capital of France is", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=16)[0]))
```
"#;

/// The import and the option that make plain weights of the codes.
const DEQUANTIZING: (&str, &str) =
    (", CompressedTensorsConfig", ", quantization_config=CompressedTensorsConfig(dequantize=True)");

const VLLM: &str = "```sh
vllm serve .  # this folder, or its name on the hub
```
";

/// The words of a command for a shell, without places on this machine.
fn command(words: &[String]) -> String {
    let mut words: Vec<String> = words.iter().map(|word| without_place(word)).collect();
    if let Some(program) = words.first_mut() {
        *program = last_part(program).to_string();
    }
    quoted(&words).chars().map(|c| if paring_format::names::is_obeyed(c) { ' ' } else { c }).collect()
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// A metric of a task, with its standard error.
fn metric(metric: &Metric) -> String {
    let stderr = metric.stderr.map_or(String::new(), |stderr| format!(" ± {stderr:.4}"));
    format!("{:.4}{stderr}", metric.value)
}
