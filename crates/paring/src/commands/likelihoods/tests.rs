use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use paring_kernels::device::present;

use super::*;
use crate::Precision;

fn golden(name: &str, precision: Precision, device: &Device) -> Box<dyn Decoder> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models").join(name);
    let checkpoint = Arc::new(paring_format::Checkpoint::open(&model).unwrap());
    paring_model::families::open(checkpoint, paring_model::Arithmetic::from(precision).on(device)).unwrap()
}

/// Tokens of a vocabulary, about random.
fn tokens(count: usize, seed: u32, vocab: usize) -> Vec<u32> {
    (0..count as u32).map(|i| (i + 977 * seed).wrapping_mul(2_654_435_761) % vocab as u32).collect()
}

/// Documents with choices of one context, of which some begin with the same examples.
fn requests(vocab: usize) -> Vec<Request> {
    let examples = tokens(40, 99, vocab);
    let mut all = Vec::new();
    for document in 0..12 {
        let own = tokens(1 + 7 * document as usize, document, vocab);
        let context = if document % 4 < 2 { [examples.clone(), own].concat() } else { own };
        for choice in 0..3 {
            let continuation = tokens(1 + (document as usize + choice) % 5, 1000 + 3 * document + choice as u32, vocab);
            all.push(Request { context: context.clone(), continuation });
        }
    }
    all
}

/// The score of one request: a pass of its own.
fn alone(decoder: &dyn Decoder, request: &Request, longest: usize) -> Score {
    let (mut ids, first) = request.input(longest);
    ids.extend(request.continuation.last());
    let mut h = decoder.embed(&ids, 1).unwrap();
    for i in 0..decoder.blocks() {
        h = decoder.block(i).unwrap().forward(&h, &mut ()).unwrap();
    }
    let loglikelihood = -decoder.nll(&h, &ids).unwrap()[first..].iter().map(|&v| f64::from(v)).sum::<f64>();
    let logits = decoder.logits(&h).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let rows: Vec<&[f32]> = logits.chunks_exact(decoder.vocab_size()).collect();
    let is_greedy = request.continuation.iter().enumerate().all(|(k, &target)| {
        let row = rows[first + k];
        row.iter()
            .enumerate()
            .all(|(id, &v)| v < row[target as usize] || v == row[target as usize] && id >= target as usize)
    });
    Score { loglikelihood, is_greedy }
}

fn scored(decoder: &dyn Decoder, requests: &[Request], longest: usize) -> Result<Vec<Score>> {
    let budget = DeviceBudget::new(decoder.device(), None).unwrap();
    score(decoder, &budget, &asked(requests, longest), &mut Clock::default(), &mut ())
}

fn asked(requests: &[Request], longest: usize) -> Asked<'_> {
    Asked { requests, longest, beyond: Beyond::default() }
}

#[test]
fn texts_score_as_if_each_were_alone() {
    for name in ["llama", "opt_350m", "falcon_40b", "falcon_alibi", "mistral_window", "qwen3"] {
        for device in present() {
            let decoder = golden(name, Precision::F32, &device);
            // Some contexts are cut.
            let (requests, longest) = (requests(decoder.vocab_size()), decoder.max_positions() - 1);
            let scores = scored(decoder.as_ref(), &requests, longest).unwrap();
            assert_eq!(scores.len(), requests.len());
            for (request, score) in requests.iter().zip(&scores) {
                let want = alone(decoder.as_ref(), request, longest);
                // Sums of a few logarithms, each within the rounding of logits.
                let error = (score.loglikelihood - want.loglikelihood).abs() / want.loglikelihood.abs();
                assert!(error < 2e-5, "{name}: {score:?}, alone {want:?}");
                assert_eq!(score.is_greedy, want.is_greedy, "{name}");
            }
        }
    }
}

#[test]
fn the_amount_counts_what_is_shared_once() {
    let decoder = golden("llama", Precision::F32, &Device::Cpu);
    let context: Vec<u32> = tokens(20, 1, 64);
    let request = |count: usize| Request { context: context.clone(), continuation: tokens(count, 2, 64) };
    let amount = |requests: &[Request]| amount(decoder.as_ref(), &asked(requests, 40)).unwrap();
    let activations = 25 * decoder.hidden_size() * 4;
    assert_eq!(
        amount(&[request(1), request(3), request(4)]),
        Amount { requests: 3, tokens: 20 + 22 + 23, computed: 25, predictions: 8, rounds: 1, activations, on_disk: 0 }
    );
    assert_eq!(amount(&[]), Amount::default());
}

#[test]
fn scores_are_the_same_wherever_activations_wait() {
    let dir = tempfile::tempdir().unwrap();
    for device in present() {
        let decoder = golden("llama", Precision::Bf16, &device);
        let (requests, longest) = (requests(decoder.vocab_size()), decoder.max_positions() - 1);
        let budget = DeviceBudget::new(&device, None).unwrap();
        // The activations of about a fifth of the texts.
        let resident = 100 * row_bytes(decoder.as_ref());
        let run = |beyond| {
            let asked = Asked { beyond, ..asked(&requests, longest) };
            let (texts, forests) = asked.forests(decoder.as_ref(), resident).unwrap();
            assert!(forests.len() > 3 && texts.len() == requests.len());
            let passes = Passes::of(decoder.as_ref(), &forests, beyond, resident);
            let made = (decoder.as_ref(), &budget);
            let scores = score_within(resident, made, &asked, &mut Clock::default(), &mut ()).unwrap();
            (scores, passes.each(&forests).count(), passes.on_disk)
        };
        let (want, rounds, on_disk) = run(Beyond::Rounds);
        assert!(rounds > 3 && on_disk == 0);
        let (got, rounds, on_disk) = run(Beyond::Folder(dir.path()));
        assert!(got == want, "{device:?}");
        assert!(rounds == 1 && on_disk > resident);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let nowhere =
            Asked { beyond: Beyond::Folder(std::path::Path::new("no such folder")), ..asked(&requests, longest) };
        let made = (decoder.as_ref(), &budget);
        let refused = score_within(resident, made, &nowhere, &mut Clock::default(), &mut ());
        // A GPU has room for all of them.
        assert!(!device.is_cpu() || refused.unwrap_err().to_string().contains("no such folder"));
    }
}

#[test]
fn what_cannot_be_scored() {
    let decoder = golden("llama", Precision::F32, &Device::Cpu);
    let request =
        |context: &[u32], continuation: &[u32]| Request { context: context.into(), continuation: continuation.into() };
    let fine = request(&[1, 2], &[3]);
    for (bad, words) in [
        (request(&[], &[1]), "text 1 has no context"),
        (request(&[1], &[]), "text 1 has no continuation"),
        (request(&[1], &[1; 9]), "text 1 has 9 tokens to predict, and the model takes 8"),
        (request(&[1 << 20], &[1]), "token 1048576 is outside"),
        (request(&[1], &[1 << 20]), "token 1048576 is outside"),
    ] {
        let error = scored(decoder.as_ref(), &[fine.clone(), bad], 8).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(scored(decoder.as_ref(), &[], 8).unwrap(), []);
}
