//! Lower bounds of a run's time, and its memory, on a card of given rates: for models that are not
//! at hand.

use paring_format::Dtype;
use paring_kernels::gram::GramPrecision;
use paring_model::LinearInfo;
use serde::Serialize;

use super::sheet::{Block, Linear, Sheet, Tensor, Treatment};
use super::work;
use crate::compress::Kind;
use crate::compress::stored;
use crate::pipeline::shapes::llama;
use crate::pipeline::vram::{Device, Pass, device};
use crate::plan::{Choice, Recipe};
use crate::report::Stage;
use crate::{Precision, Result};

/// The shapes of a Llama, in bfloat16.
#[derive(Clone, Copy, Debug)]
pub struct Llama {
    /// Its name.
    pub name: &'static str,
    /// Blocks.
    pub blocks: usize,
    /// Width of the activations between blocks, and of the queries.
    pub dim: usize,
    /// Width of the keys, and of the values.
    pub keys: usize,
    /// Width inside the MLP.
    pub inner: usize,
    /// Token ids.
    pub vocab: usize,
}

/// Models whose floors the documentation lists.
pub const LLAMAS: [Llama; 4] = [
    Llama { name: "Llama-7B", blocks: 32, dim: 4096, keys: 4096, inner: 11008, vocab: 32000 },
    Llama { name: "Llama-3-8B", blocks: 32, dim: 4096, keys: 1024, inner: 14336, vocab: 128_256 },
    Llama { name: "Llama-3-70B", blocks: 80, dim: 8192, keys: 1024, inner: 28672, vocab: 128_256 },
    Llama { name: "Llama-3-405B", blocks: 126, dim: 16384, keys: 1024, inner: 53248, vocab: 128_256 },
];

/// A card and what it is connected to, in bytes and operations a second.
#[derive(Clone, Copy, Debug)]
pub struct Card {
    /// Bytes of its memory that a run may fill.
    pub memory: u64,
    /// Bytes through its memory.
    pub bandwidth: f64,
    /// Operations of products of bfloat16 numbers.
    pub products: f64,
    /// Operations in f32.
    pub singles: f64,
    /// Bytes between host and card.
    pub link: f64,
    /// Bytes to and from the disk.
    pub disk: f64,
}

/// The least that a run takes.
#[derive(Clone, Debug, Serialize)]
pub struct Floor {
    /// Seconds of each part on the card, where neither its operations nor its bytes take longer.
    pub stages: Vec<(&'static str, f64)>,
    /// Seconds of all that goes between host and card.
    pub link: f64,
    /// Seconds of all that goes to and from the disk.
    pub disk: f64,
    /// Seconds of the run: of the card, the link and the disk the one that takes longest, for they work at the same time.
    pub seconds: f64,
    /// Memory of the card.
    pub device: Device,
    /// Bytes on the host.
    pub host: u64,
    /// Bytes of the output.
    pub output: u64,
}

impl Llama {
    /// A run of `recipe` on `windows` windows of `seqlen` tokens, as [`super::of`] has those of jobs.
    pub(super) fn sheet<'a>(&self, recipe: &'a Recipe, windows: usize, seqlen: usize) -> Result<Sheet<'a>> {
        let kind = Kind::of(&Choice { recipe, outlier_share: None, format: None })?;
        let dtype = Dtype::Bf16;
        let linear = |info: LinearInfo| -> Result<Linear<'a>> {
            let written = stored::parts(&kind, recipe, [info.rows, info.cols], dtype, 0.0)?;
            let made = Some(Treatment::new(recipe, recipe.statistics(), &kind));
            Ok(Linear { read: dtype.size() * info.rows * info.cols, written, made, info })
        };
        let tensor = |count: usize| Tensor { read: dtype.size() * count, written: dtype.size() * count };
        let info = llama(self.dim, self.keys, self.inner);
        let linears = info.linears.iter().cloned().map(linear).collect::<Result<_>>()?;
        let block = Block { info, linears, rest: vec![tensor(self.dim); 2] };
        let matrix = tensor(self.vocab * self.dim);
        Ok(Sheet {
            blocks: vec![block; self.blocks],
            outer: vec![vec![matrix], vec![matrix], vec![tensor(self.dim)]],
            dim: self.dim,
            windows,
            seqlen,
            batches: vec![1; windows],
            precision: Precision::Bf16,
            threads: 1,
            sequential: false,
            holds: false,
            dense: false,
            trains: None,
            cache: false,
            masks: false,
            errors: true,
            resident: usize::MAX,
            built_in: false,
            is_known: true,
            measures: None,
        })
    }

    /// The least that a run of `recipe` on `windows` windows of `seqlen` tokens takes on `card`.
    ///
    /// # Errors
    /// When it does not fit the card, and when no layout holds what the recipe makes.
    pub fn floor(&self, recipe: &Recipe, windows: usize, seqlen: usize, card: &Card) -> Result<Floor> {
        let mut sheet = self.sheet(recipe, windows, seqlen)?;
        let block = llama(self.dim, self.keys, self.inner);
        let pass = Pass {
            block: &block,
            dim: self.dim,
            windows,
            seqlen,
            precision: sheet.precision,
            products: GramPrecision::F32,
            need: recipe.statistics(),
            sweeps: true,
            slice: recipe.blocksize,
            group: recipe.least_group().unwrap_or(0),
            head: None,
        };
        let device = device(&pass, card.memory)?;
        let batch = device.batch.max(1);
        sheet.batches = (0..windows).step_by(batch).map(|first| batch.min(windows - first)).collect();
        let mut floor = Floor {
            stages: Vec::new(),
            link: 0.0,
            disk: 0.0,
            seconds: 0.0,
            host: sheet.beside(0, &device).bytes(),
            output: sheet.written(),
            device,
        };
        let mut busy = 0.0;
        for stage in work::STAGES {
            let work = sheet.work(stage, floor.device.holds_activations);
            floor.link += work.carried / card.link;
            floor.disk += (work.read + work.written) / card.disk;
            // What the products of a bfloat16 model round, its Gram matrices and its layers' errors round too.
            let rounded = matches!(stage, Stage::Forward | Stage::Gram | Stage::Error);
            let rate = if rounded { card.products } else { card.singles };
            let on_card = matches!(stage, Stage::Forward | Stage::Gram | Stage::Factor | Stage::Sweep | Stage::Error);
            if on_card {
                let seconds = (work.operations / rate).max(work.moved / card.bandwidth);
                busy += seconds;
                floor.stages.push((stage.name(), seconds));
            }
        }
        // A block's weights are read twice, the second time from memory; the output is read back once.
        floor.disk -= sheet.linears().map(|l| l.read as f64).sum::<f64>() / card.disk;
        floor.disk += sheet.written() as f64 / card.disk;
        floor.seconds = busy.max(floor.link).max(floor.disk);
        Ok(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{MethodInfo, Pattern, Rounding};

    fn card(gib: u64) -> Card {
        let (bandwidth, products, singles) = (2e12, 3e14, 2e13);
        Card { memory: gib << 30, bandwidth, products, singles, link: 2.5e10, disk: 2e9 }
    }

    fn recipe(method: &'static str, pattern: Option<Pattern>, rounding: Option<Rounding>) -> Recipe {
        let method = MethodInfo::named(method).unwrap();
        Recipe { pattern, rounding, ..Recipe::new(method) }
    }

    #[test]
    fn floors_are_those_counted_by_hand() {
        let llama = LLAMAS[0];
        let pruning = recipe("sparsegpt", Some(Pattern::NofM { keep: 2, of: 4 }), None);
        let floor = llama.floor(&pruning, 128, 2048, &card(80)).unwrap();
        let of = |name: &str| floor.stages.iter().find(|(stage, _)| *stage == name).unwrap().1;
        let (dim, inner, tokens) = (4096f64, 11008f64, 128.0 * 2048.0);
        let gram = 32.0 * (3.0 * dim * dim + inner * inner) * tokens / 3e14;
        assert!((of("gram") / gram - 1.0).abs() < 1e-9, "{} {gram}", of("gram"));
        let factor = 32.0 * 2.0 / 3.0 * (3.0 * dim.powi(3) + inner.powi(3)) / 2e13;
        assert!((of("factor") / factor - 1.0).abs() < 1e-9, "{} {factor}", of("factor"));
        // Every block twice, but for the last, and the last fan once.
        let (first, down) = (4.0 * dim * dim + 2.0 * dim * inner, dim * inner);
        let products = 2.0 * tokens * (32.0 * first + 31.0 * (first + down)) + 63.0 * 2.0 * tokens * 2048.0 * dim;
        assert!((of("forward") / (products / 3e14) - 1.0).abs() < 1e-9);
        // Embedding, head and norms too, in two bytes each.
        let weights = 32.0 * (first + down + 2.0 * dim) + 2.0 * 32000.0 * dim + dim;
        assert_eq!(floor.output, 2 * weights as u64);
        // Of the host: gate and up as they were, as swept, as the file has them and marks; a matrix that is read; two
        // shards; and what copies go through, for blocks and for sweeps.
        let fan = (4.0 + 4.0 + 4.0 + 1.0) * 2.0 * dim * inner;
        let shards = 2.0 * 2.0 * (first + down);
        assert_eq!(floor.host, (fan + 6.0 * dim * inner + shards) as u64 + (64 << 20));
        // Over the link: each weight as products have it, before and after; to the sweep and back in f32, with its
        // mark; and once more for the error of its layer, with some rows of each for that of the baseline.
        let baseline = 4.0 * crate::compress::ROWS as f64 * (6.0 * dim + inner);
        let link = 32.0 * ((first + down) * (2.0 + 2.0 + 4.0 + 4.0 + 1.0 + 4.0) + baseline) / 2.5e10;
        assert!((floor.link / link - 1.0).abs() < 1e-9, "{} {link}", floor.link);
        assert!(floor.seconds >= of("gram") + of("factor") + of("forward"));
    }

    #[test]
    fn larger_models_take_more_and_less_memory_is_an_error() {
        let four_bits = recipe("gptq", None, Some(Rounding { symmetric: true, ..Rounding::int(4, Some(128)) }));
        let floors: Vec<Floor> = LLAMAS.iter().map(|m| m.floor(&four_bits, 128, 2048, &card(70)).unwrap()).collect();
        for pair in floors.windows(2) {
            assert!(pair[0].output < pair[1].output && pair[0].seconds < pair[1].seconds);
            assert!(pair[1].device.bytes() <= 70 << 30);
        }
        // The activations of the largest do not fit beside its factors.
        assert!(floors[0].device.holds_activations && !floors[3].device.holds_activations);
        assert!(floors[3].host > 4 * 128 * 2048 * 16384);
        let error = LLAMAS[3].floor(&four_bits, 128, 2048, &card(40)).unwrap_err().to_string();
        assert!(error.contains("max-vram: "), "{error}");
    }
}
