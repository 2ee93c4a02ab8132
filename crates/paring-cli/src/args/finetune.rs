//! Options of the command that trains.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use paring::finetune::{Loss, Schedule, Settings, Subject};
use paring::request::{DataOptions, Finetune};
use paring_data::named::Protocol;
use paring_data::training::Form;
use paring_kernels::adam::Adam;

use super::headings::{DATA, EVALUATION, GLOBAL, LOSS, OUTPUT, SPEED, TRAINING};
use super::inputs::OpeningArgs;
use super::running::DtypeArg;
use super::{LogArg, Shared, sources};

#[derive(Args)]
pub struct FinetuneArgs {
    /// Hugging Face folder, hub name (org/name or org/name@revision), or `demo`
    #[arg(value_parser = NonEmptyStringValueParser::new(), help_heading = None::<&str>)]
    pub model: String,
    /// Text, instructions with answers, or chats: a file or folder (.txt .jsonl .json .parquet), or a named set
    ///
    /// Of instructions the answers are learned, of chats the turns of the assistant. cnn_dailymail is read with
    /// the prompt of Model-Optimizer.
    #[arg(value_parser = NonEmptyStringValueParser::new(), help_heading = None::<&str>)]
    pub dataset: Option<String>,
    #[command(flatten)]
    pub opening: OpeningArgs,
    #[command(flatten)]
    pub training: TrainingArgs,
    #[command(flatten)]
    pub loss: LossArgs,
    /// Output folder
    #[arg(long, short, value_name = "DIR", help_heading = OUTPUT)]
    pub out: PathBuf,
    /// Replace an earlier output of paring, and a training that did not end
    #[arg(long, help_heading = OUTPUT)]
    pub overwrite: bool,
    /// Continue the training of the same that did not end, from its last checkpoint
    #[arg(long, conflicts_with = "overwrite", help_heading = OUTPUT)]
    pub resume: bool,
    /// Steps from one checkpoint to the next, for --resume [default: a twentieth of all]
    #[arg(long, value_name = "STEPS", hide_short_help = true, help_heading = OUTPUT)]
    pub checkpoint_every: Option<usize>,
    /// Check everything and estimate time, memory and disk; write nothing
    #[arg(long, help_heading = OUTPUT)]
    pub dry_run: bool,
    #[command(flatten)]
    pub data: TextArgs,
    #[command(flatten)]
    pub measuring: MeasuringArgs,
    /// Threads [default: one per core]; results do not depend on it
    #[arg(long, value_name = "N", hide_short_help = true, help_heading = SPEED, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Compute type: products of the forward pass round their inputs to it
    #[arg(long, value_enum, default_value = "auto", hide_short_help = true, help_heading = SPEED)]
    pub dtype: DtypeArg,
    /// Fastest instructions to use on the CPU, such as avx512 [default: $PARING_ISA, or the best; --version says which]
    #[arg(long, value_name = "NAME", hide_short_help = true, help_heading = SPEED, value_parser = NonEmptyStringValueParser::new())]
    pub isa: Option<String>,
    /// Print each step
    #[arg(long, short, hide_short_help = true, help_heading = GLOBAL)]
    pub verbose: bool,
    #[command(flatten)]
    pub log: LogArg,
}

#[derive(Args)]
#[command(next_help_heading = TRAINING)]
pub struct TrainingArgs {
    /// Train an adapter (LoRA) beside the weights, in PEFT's format: such as r=16,alpha=32,targets=q_proj,v_proj
    ///
    /// By default r=16, alpha=2r, and all linears of the blocks. With `masked` among the words the adapter counts only where the
    /// model's weights are not 0, so that it can be merged into a pruned model exactly.
    #[arg(long, value_name = "CHOICES", num_args = 0..=1, default_missing_value = "", value_parser = lora)]
    pub lora: Option<Lora>,
    /// Weights that are 0 stay so, or train as the others
    #[arg(long, value_enum, default_value = "keep", conflicts_with = "lora")]
    pub masks: MasksArg,
    /// Times that each window is seen [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "steps")]
    pub epochs: Option<u32>,
    /// Steps [default: one epoch]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: Option<u32>,
    /// Windows of a step
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,
    /// Highest rate [default: 2e-5, for an adapter 2e-4]
    #[arg(long, value_name = "RATE", value_parser = positive)]
    pub learning_rate: Option<f64>,
    /// Course of the rate
    #[arg(long, value_enum, default_value = "cosine", hide_short_help = true)]
    pub lr_scheduler: SchedulerArg,
    /// Steps in which the rate rises from 0
    #[arg(long, value_name = "STEPS", default_value_t = 0, hide_short_help = true)]
    pub warmup_steps: u32,
    /// Decay of matrices in AdamW [default: 0.1, for an adapter 0]
    #[arg(long, value_name = "DECAY", value_parser = not_negative, hide_short_help = true)]
    pub weight_decay: Option<f64>,
    /// Norm that the gradients of a step are brought down to; 0 for none
    #[arg(long, value_name = "NORM", default_value_t = 1.0, value_parser = not_negative, hide_short_help = true)]
    pub max_grad_norm: f64,
    /// Seed of the order of windows, and of an adapter's start
    #[arg(long, value_name = "SEED", default_value_t = 0, hide_short_help = true)]
    pub seed: u64,
}

#[derive(Args)]
#[command(next_help_heading = LOSS)]
pub struct LossArgs {
    /// Dense model to learn from beside the text
    #[arg(long, value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub teacher: Option<String>,
    /// Share of the cross-entropy [default: 1, with a teacher 0.5]
    #[arg(long, value_name = "SHARE", value_parser = not_negative, hide_short_help = true)]
    pub ce_weight: Option<f64>,
    /// Share of the divergence from the teacher's predictions [default: 0.5]
    #[arg(long, value_name = "SHARE", value_parser = not_negative, requires = "teacher", hide_short_help = true)]
    pub kl_weight: Option<f64>,
    /// Temperature of that divergence
    #[arg(long, value_name = "T", default_value_t = 2.0, value_parser = positive, requires = "teacher", hide_short_help = true)]
    pub temperature: f64,
    /// Share of the distance of all blocks' outputs from the teacher's (SquareHead) [default: 0]
    #[arg(long, value_name = "SHARE", value_parser = not_negative, requires = "teacher", hide_short_help = true)]
    pub squarehead_weight: Option<f64>,
}

#[derive(Args)]
#[command(next_help_heading = DATA)]
pub struct TextArgs {
    /// Tokens per window [default: 1024, or the model's context]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..))]
    pub seqlen: Option<u32>,
    /// Read the first N documents, records or chats only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), hide_short_help = true)]
    pub limit: Option<u32>,
    /// Form of the records [default: by the fields of the first]
    #[arg(long, value_enum, hide_short_help = true)]
    pub form: Option<FormArg>,
    /// Join several answers or chats in a window; text always is
    #[arg(long, hide_short_help = true)]
    pub packing: bool,
    /// JSON field or Parquet column with the text, or with messages for the model's chat template
    #[arg(long, default_value = "text", value_name = "NAME", hide_short_help = true)]
    pub text_field: String,
    /// Folder that holds named sets: as downloaded from the hub, or flat
    #[arg(long, value_name = "DIR", hide_short_help = true)]
    pub data_dir: Option<PathBuf>,
}

#[derive(Args)]
#[command(next_help_heading = EVALUATION)]
pub struct MeasuringArgs {
    /// Text to measure on [default: windows held out of DATASET]
    #[arg(long, value_name = "DATASET", value_parser = NonEmptyStringValueParser::new())]
    pub eval: Option<String>,
    /// Windows to measure on [default: a twentieth of all, 16 at most; of --eval 16]; 0 for none
    #[arg(long, value_name = "N", hide_short_help = true)]
    pub hold_out: Option<u32>,
    /// Steps from one measurement to the next [default: a tenth of all]
    #[arg(long, value_name = "STEPS", hide_short_help = true)]
    pub eval_every: Option<u32>,
}

/// The choices of an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    rank: usize,
    alpha: f64,
    targets: Vec<String>,
    masked: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum MasksArg {
    /// Zeros stay zeros
    Keep,
    /// All weights train
    Drop,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum SchedulerArg {
    /// Half a cosine to 0
    Cosine,
    /// In a straight line to 0
    Linear,
    /// The same in all steps
    Constant,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum FormArg {
    /// Texts, joined; all of it is learned
    Text,
    /// Instructions with answers, which are learned
    Instruction,
    /// Messages, of which those of the assistant are learned
    Chat,
}

impl FinetuneArgs {
    /// The fine-tuning that is asked for.
    pub fn request(&self, shared: &Shared) -> Finetune {
        let TextArgs { seqlen, limit, form, packing, text_field, data_dir } = &self.data;
        let form = form.map(|form| match form {
            FormArg::Text => Form::Text,
            FormArg::Instruction => Form::Instruction,
            FormArg::Chat => Form::Chat,
        });
        Finetune {
            model: self.model.clone(),
            data: self.dataset.clone(),
            data_options: DataOptions {
                text_field: text_field.clone(),
                data_dir: data_dir.clone(),
                protocol: Protocol::Gptq,
            },
            form,
            packing: packing.then_some(true),
            limit: limit.map(|limit| limit as usize),
            seqlen: seqlen.map(|tokens| tokens as usize),
            sources: sources(shared.quiet, &self.opening),
            teacher: self.loss.teacher.clone(),
            eval: self.measuring.eval.clone(),
            held_out: self.measuring.hold_out.map(|windows| windows as usize),
            steps: self.training.steps.map(|steps| steps as usize),
            epochs: self.training.epochs.unwrap_or(1) as usize,
            settings: self.settings(),
            eval_every: self.measuring.eval_every.map(|steps| steps as usize),
            checkpoint_every: self.checkpoint_every,
            precision: self.dtype.precision(),
            out: self.out.clone(),
            overwrite: self.overwrite,
            resume: self.resume,
        }
    }

    fn settings(&self) -> Settings {
        let TrainingArgs { lora, masks, batch_size, learning_rate, lr_scheduler, warmup_steps, .. } = &self.training;
        let TrainingArgs { weight_decay, max_grad_norm, seed, .. } = self.training;
        let of_weights = lora.is_none();
        let subject = match lora {
            None => Subject::Weights { masked: matches!(masks, MasksArg::Keep) },
            Some(Lora { rank, alpha, targets, masked }) => {
                Subject::Adapter { rank: *rank, alpha: *alpha, targets: targets.clone(), masked: *masked }
            }
        };
        let has_teacher = self.loss.teacher.is_some();
        let usual = if has_teacher { 0.5 } else { 1.0 };
        Settings {
            steps: 0,
            batch: *batch_size as usize,
            rate: learning_rate.unwrap_or(if of_weights { 2e-5 } else { 2e-4 }),
            schedule: match lr_scheduler {
                SchedulerArg::Cosine => Schedule::Cosine,
                SchedulerArg::Linear => Schedule::Linear,
                SchedulerArg::Constant => Schedule::Constant,
            },
            warmup: *warmup_steps as usize,
            adam: Adam { decay: weight_decay.unwrap_or(if of_weights { 0.1 } else { 0.0 }), ..Adam::default() },
            clip: Some(max_grad_norm).filter(|norm| *norm > 0.0),
            loss: Loss {
                cross_entropy: self.loss.ce_weight.unwrap_or(usual),
                divergence: self.loss.kl_weight.unwrap_or(if has_teacher { 0.5 } else { 0.0 }),
                temperature: self.loss.temperature,
                states: self.loss.squarehead_weight.unwrap_or(0.0),
            },
            subject,
            seed,
            eval_every: 0,
            checkpoint_every: 0,
            rounded: true,
        }
    }
}

/// `r=16,alpha=32,targets=q_proj,v_proj,masked`, in any order; what has no `=` after targets is one more of them.
fn lora(text: &str) -> Result<Lora, String> {
    let (mut rank, mut alpha, mut targets, mut masked) = (16, None, Vec::new(), false);
    let (mut in_targets, mut has_all) = (false, false);
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let number = |value: &str| value.parse::<f64>().ok().filter(|v| v.is_finite() && *v > 0.0);
        match part.split_once('=') {
            None if part == "masked" => masked = true,
            None if in_targets => targets.push(part.to_string()),
            None => return Err(format!("{part:?}: expected r=…, alpha=…, targets=… or masked, with commas between")),
            Some(("r", value)) => {
                let parsed = value.parse::<usize>().ok().filter(|r| (1..=4096).contains(r));
                rank = parsed.ok_or_else(|| format!("r={value}: expected a number from 1 to 4096"))?;
            }
            Some(("alpha", value)) => {
                alpha = Some(number(value).ok_or_else(|| format!("alpha={value}: expected a number above 0"))?);
            }
            Some(("targets", value)) if value == "all" || value == "all-linear" => has_all = true,
            Some(("targets", value)) => targets.push(value.to_string()),
            Some((other, _)) => return Err(format!("{other:?}: expected r, alpha, targets or masked")),
        }
        in_targets = part.starts_with("targets=") || (in_targets && !part.contains('='));
    }
    if !targets.is_empty() && has_all {
        return Err("targets: all linears, and some of them; leave one of both out".to_string());
    }
    Ok(Lora { rank, alpha: alpha.unwrap_or(2.0 * rank as f64), targets, masked })
}

fn not_negative(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|v| v.is_finite() && *v >= 0.0);
    number.ok_or_else(|| "expected a number from 0 on".to_string())
}

fn positive(text: &str) -> Result<f64, String> {
    not_negative(text).ok().filter(|v| *v > 0.0).ok_or_else(|| "expected a number above 0".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_of_adapters() {
        let want = |rank, alpha, targets: &[&str], masked| {
            Ok(Lora { rank, alpha, targets: targets.iter().map(|t| t.to_string()).collect(), masked })
        };
        assert_eq!(lora(""), want(16, 32.0, &[], false));
        assert_eq!(lora("r=8"), want(8, 16.0, &[], false));
        let all = want(4, 16.0, &["q_proj", "v_proj"], true);
        assert_eq!(lora("r=4,alpha=16,targets=q_proj,v_proj,masked"), all);
        assert_eq!(lora("targets=q_proj,v_proj,r=4,masked,alpha=16"), all);
        assert_eq!(lora("targets=all"), want(16, 32.0, &[], false));
        for (text, word) in
            [("r=0", "from 1"), ("q_proj", "expected r="), ("beta=1", "\"beta\""), ("alpha=x", "above 0")]
        {
            assert!(lora(text).unwrap_err().contains(word), "{text}");
        }
    }
}
