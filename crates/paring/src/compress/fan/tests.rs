//! Each stage by itself, on a small model's linears, and the order in which fans leave them.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use paring_kernels::gram::Gram;
use paring_model::Decoder;

use super::*;
use crate::Precision;
use crate::methods::Outcome;
use crate::plan::method::{GPTQ, SPARSEGPT, SPQR};
use crate::plan::{Pattern, Permutation, Rounding, Spqr};

/// Everything that a [`Context`] borrows.
struct Small {
    plan: Plan,
    selection: Selection,
    checkpoint: Arc<Checkpoint>,
    decoder: Box<dyn Decoder>,
    encoder: Encoder,
    budget: DeviceBudget,
}

impl Small {
    /// The small Llama of the golden data, whose linears are compressed so, but for those that `ignore` names.
    fn new(recipe: Recipe, ignore: &[&str]) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models/llama");
        let checkpoint = Arc::new(Checkpoint::open(&dir).unwrap());
        let arithmetic = paring_model::Arithmetic::from(Precision::F32);
        let decoder = paring_model::families::open(Arc::clone(&checkpoint), arithmetic).unwrap();
        let ignore = ignore.iter().map(|name| name.to_string()).collect();
        let plan = Plan { ignore, ..Plan::new("llama", recipe) };
        let selection = Selection::new(&plan, decoder.as_ref()).unwrap();
        let (encoder, budget) = (Encoder::new(&plan).unwrap(), DeviceBudget::new(&Device::Cpu, None).unwrap());
        Self { plan, selection, checkpoint, decoder, encoder, budget }
    }

    fn context(&self) -> Context<'_> {
        let Self { plan, selection, checkpoint, encoder, budget, .. } = self;
        Context { plan, selection, checkpoint, masks: None, encoder, budget, block: 0 }
    }

    /// The linears of one of the first block's fans.
    fn fan(&self, fan: usize) -> Vec<LinearInfo> {
        self.decoder.linears(0).into_iter().filter(|linear| linear.fan == fan).collect()
    }

    /// Fan `fan` of the first block as it comes out of the second stage.
    fn ready(&self, fan: usize) -> Vec<prepare::Ready<'_>> {
        let read = read::read(self.context(), &self.fan(fan)).unwrap();
        let stats = stats(read.linears[0].info.cols);
        prepare::prepare(read.linears, Some(&stats)).unwrap()
    }

    /// The same out of the fourth.
    fn judged(&self, fan: usize) -> Vec<Judged<'_>> {
        judge::judge(sweep::sweep(self.ready(fan), |_| {}).unwrap(), None, false).unwrap()
    }
}

fn gptq() -> Recipe {
    let rounding = Some(Rounding::int(3, Some(16)));
    Recipe { rounding, blocksize: 16, ..Recipe::new(&GPTQ) }
}

fn sparsegpt() -> Recipe {
    Recipe { method: &SPARSEGPT, pattern: Some(Pattern::NofM { keep: 2, of: 4 }), rounding: None, ..gptq() }
}

fn stats(cols: usize) -> Stats {
    let value = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) as u16 as f32 / 32768.0 - 1.0;
    let x = Tensor::from_vec((0..4 * cols * cols).map(value).collect::<Vec<_>>(), (4 * cols, cols), &Device::Cpu);
    let mut gram = Gram::new(cols, Precision::F32);
    gram.add(&x.unwrap()).unwrap();
    Stats::Gram(gram.finish(2.0).unwrap())
}

fn names(linears: &[LinearInfo]) -> Vec<String> {
    linears.iter().map(|linear| linear.name.clone()).collect()
}

#[test]
fn linears_are_read_in_order_and_those_not_chosen_are_kept() {
    let small = Small::new(gptq(), &["re:.*k_proj"]);
    let read = read::read(small.context(), &small.fan(0)).unwrap();
    let chosen: Vec<&str> = read.linears.iter().map(|linear| linear.info.name.as_str()).collect();
    assert_eq!(chosen, ["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj"]);
    let kept: Vec<&str> = read.kept.iter().map(|encoded| encoded.module.as_str()).collect();
    assert_eq!(kept, ["model.layers.0.self_attn.k_proj"]);
    let LinearInfo { name, rows, cols, .. } = &read.linears[0].info;
    let stored = small.checkpoint.read_linear(name, *rows, *cols).unwrap();
    assert_eq!(read.linears[0].weight, stored.to_dense());
    assert_eq!(read.linears[0].stored.dtype, stored.dtype);
    let unknown = LinearInfo { name: "model.layers.9.mlp.up_proj".into(), ..small.fan(0)[0].clone() };
    assert!(read::read(small.context(), &[unknown]).is_err());
}

#[test]
fn linears_treated_alike_share_a_preparation() {
    let small = Small::new(gptq(), &[]);
    let ready = small.ready(0);
    assert_eq!(ready.len(), 3);
    assert!(ready.iter().all(|linear| Arc::ptr_eq(&linear.prepared, &ready[0].prepared)));
    let cols = ready[0].linear.info.cols as f64;
    let stats = stats(ready[0].linear.info.cols);
    assert_eq!(prepare::work(&ready, Some(&stats)), 2.0 / 3.0 * cols * cols * cols);
    assert_eq!(prepare::work(&ready, None), 0.0);
    // An order that depends on the weights is one for each.
    let spqr = Spqr { permutation: Permutation::Spearman, ..Spqr::default() };
    let small = Small::new(Recipe { method: &SPQR, spqr: Some(spqr), ..gptq() }, &[]);
    let ready = small.ready(0);
    assert!(!Arc::ptr_eq(&ready[0].prepared, &ready[1].prepared));
    assert_eq!(prepare::work(&ready, Some(&stats)), 2.0 * cols * cols * cols);
}

#[test]
fn a_repair_is_told_once_with_all_linears_that_it_concerns() {
    let small = Small::new(gptq(), &[]);
    let read = || read::read(small.context(), &small.fan(0)).unwrap().linears;
    let cols = read()[0].info.cols;
    assert!(prepare::repairs(&prepare::prepare(read(), Some(&stats(cols))).unwrap()).is_empty());
    // The first two columns are nearly one: positive definite once more than a twentieth is added to the diagonal.
    let mut gram = vec![0f32; cols * cols];
    (0..cols).for_each(|i| gram[i * (cols + 1)] = 1.0);
    (gram[1], gram[cols]) = (1.05, 1.05);
    let ready = prepare::prepare(read(), Some(&Stats::Gram(gram.into()))).unwrap();
    let attention = "model.layers.0.self_attn";
    assert_eq!(
        prepare::repairs(&ready),
        [format!(
            "{attention}.q_proj, {attention}.k_proj, {attention}.v_proj: the Gram matrix was singular with \
            damping 0.01, so \
            0.1 was used"
        )]
    );
}

#[test]
fn sweeps_of_a_fan_are_those_of_each_linear() {
    let small = Small::new(sparsegpt(), &[]);
    let want: Vec<Outcome> = (small.ready(0).iter())
        .map(|linear| {
            let (loaded, name) = (&linear.linear, &linear.linear.info.name);
            let cols = loaded.info.cols;
            loaded.recipe.compress(&loaded.weight, cols, &linear.prepared, loaded.stored, name).unwrap()
        })
        .collect();
    let ready = small.ready(0);
    let cols = ready[0].linear.info.cols;
    let weights: usize = small.fan(0).iter().map(|linear| linear.rows * linear.cols).sum();
    assert_eq!(sweep::work(&ready), (weights * cols) as f64);
    let mut begun = Vec::new();
    let swept = sweep::sweep(ready, |module| begun.push(module.to_string())).unwrap();
    assert_eq!(begun, names(&small.fan(0)));
    for (swept, want) in swept.iter().zip(&want) {
        assert_eq!(swept.outcome.compressed, want.compressed);
        assert_eq!(swept.outcome.distortion, want.distortion);
    }
}

#[test]
fn outcomes_are_judged_by_what_their_baselines_lose() {
    let small = Small::new(gptq(), &[]);
    let judge = |replace: bool, broken: bool| {
        let mut ready = small.ready(0);
        let stats = stats(ready[0].linear.info.cols);
        let measure = Measure::of(Some(&stats), &small.plan).unwrap();
        prepare::expect(&mut ready, measure.as_ref()).unwrap();
        let rows: usize = ready.iter().map(|linear| linear.linear.info.rows).sum();
        let cols = ready[0].linear.info.cols;
        assert_eq!(prepare::expected_work(&ready), (rows * cols * cols) as f64);
        let mut swept = sweep::sweep(ready, |_| {}).unwrap();
        if broken {
            swept[0].outcome.distortion = Some(f64::NAN);
            swept[0].outcome.dense_mut().iter_mut().for_each(|w| *w *= 2.0);
        }
        judge::judge(swept, measure.as_ref(), replace).unwrap()
    };
    for linear in judge(true, false) {
        let judgement = &linear.judgement;
        assert!(judgement.error < judgement.baseline && !judgement.fallback && judgement.note.is_none());
        assert_eq!((linear.preparation.damp, linear.preparation.dead), (Some(0.01), 0));
    }
    let told = &judge(false, true)[0].judgement;
    assert!(!told.fallback && told.note.as_ref().unwrap().to_string().contains("stores the better one"), "{told:?}");
    let replaced = judge(true, true);
    assert!(replaced[0].judgement.fallback && !replaced[1].judgement.fallback);
    assert_eq!(replaced[0].outcome.dense(), replaced[0].outcome.compressed.to_dense());
}

#[test]
fn what_is_stored_is_encoded_reported_and_in_the_block() {
    let small = Small::new(sparsegpt(), &[]);
    let want: Vec<Vec<f32>> = small.judged(0).into_iter().map(|linear| linear.outcome.into_dense()).collect();
    let mut block = small.decoder.block(0).unwrap();
    let mut fans = block.fans();
    let made = store::store(small.context(), small.judged(0), None, Some(&mut *fans[0])).unwrap();
    for ((made, linear), want) in made.iter().zip(&fans[0].linears).zip(&want) {
        assert_eq!((&made.report.name, &made.encoded.module), (&linear.name, &linear.name));
        assert_eq!(linear.weight.dense().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(), *want);
        let digest = paring_format::compressed::digest(linear.rows, linear.cols, want);
        assert_eq!((made.encoded.made.digest, made.encoded.made.shape), (digest, Some((linear.rows, linear.cols))));
        assert_eq!((made.report.sparsity, made.report.block, made.report.damp), (0.5, 0, Some(0.01)));
        assert_eq!((made.scales.len(), &made.note), (0, &None));
    }
    let mut judged = small.judged(0);
    let cols = judged[1].info.cols;
    judged[1].outcome.dense_mut()[cols + 2] = f32::INFINITY;
    let error = store::store(small.context(), judged, None, None).err().unwrap().to_string();
    assert!(error.starts_with("model.layers.0.self_attn.k_proj: ") && error.contains("row 1, column 2"), "{error}");
}

/// Notes what it receives.
#[derive(Default)]
struct Notes(Vec<String>);

impl Sink for Notes {
    fn step(&mut self, _: &Step<'_>) {}

    fn note(&mut self, text: String) {
        self.0.push(text);
    }

    fn kept(&mut self, encoded: Encoded) {
        self.0.push(format!("kept {}", encoded.module));
    }

    fn finished(&mut self, finished: Finished) {
        self.0.push(finished.report.name);
    }
}

/// All fans of the first block, as they wait for their turn; in fan `bad` the statistics are of no use.
fn waiting(small: &Small, bad: Option<usize>) -> Vec<Waiting<'static>> {
    let fan = |f: usize| {
        let linears = small.fan(f);
        let stats = (bad != Some(f)).then(|| stats(linears[0].cols));
        Waiting { linears, stats, drift: None, range: None, target: None }
    };
    (0..4).map(fan).collect()
}

#[test]
fn fans_leave_the_stages_in_order() {
    let small = Small::new(gptq(), &["re:.*o_proj", "re:.*up_proj"]);
    let (mut sink, mut clock) = (Notes::default(), Clock::default());
    Stages::new(small.context()).pass(waiting(&small, None), None, &mut sink, &mut clock).unwrap();
    let chosen = |name: String| match name.ends_with("o_proj") || name.ends_with("up_proj") {
        true => format!("kept {name}"),
        false => name,
    };
    let mut want: Vec<String> = (0..4).flat_map(|f| names(&small.fan(f))).map(chosen).collect();
    // What is kept of a fan comes first.
    let up = want.iter().position(|name| name.starts_with("kept ") && name.ends_with("up_proj")).unwrap();
    want.swap(up - 1, up);
    assert_eq!(sink.0, want);
}

#[test]
fn what_was_done_before_an_error_is_handed_over() {
    let small = Small::new(gptq(), &[]);
    let mut sink = Notes::default();
    let passed = Stages::new(small.context()).pass(waiting(&small, Some(2)), None, &mut sink, &mut Clock::default());
    let error = passed.unwrap_err().to_string();
    assert!(error.starts_with("model.layers.0.mlp.gate_proj: no calibration statistics"), "{error}");
    assert_eq!(sink.0, [names(&small.fan(0)), names(&small.fan(1))].concat());
    // The same where the next fan cannot be read.
    let mut fans = waiting(&small, None);
    fans[1].linears[0].rows += 1;
    let mut sink = Notes::default();
    assert!(Stages::new(small.context()).pass(fans, None, &mut sink, &mut Clock::default()).is_err());
    assert_eq!(sink.0, names(&small.fan(0)));
}

#[test]
fn a_group_is_in_the_block_before_the_next_one_is_asked_for() {
    let small = Small::new(sparsegpt(), &[]);
    let mut block = small.decoder.block(0).unwrap();
    let mut stages = Stages::new(small.context());
    for (f, mut fan) in waiting(&small, None).into_iter().enumerate() {
        let mut sink = Notes::default();
        let following = (f < 3).then(|| small.fan(f + 1));
        let mut fans = block.fans();
        fan.target = Some(fans.swap_remove(f));
        stages.pass(vec![fan], following.as_deref(), &mut sink, &mut Clock::default()).unwrap();
        assert_eq!(sink.0, names(&small.fan(f)));
        assert_eq!(stages.next.is_some(), f < 3);
        for linear in &block.fans()[f].linears {
            let dense = linear.weight.dense().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(dense.iter().filter(|w| **w == 0.0).count(), dense.len() / 2, "{}", linear.name);
        }
    }
}
