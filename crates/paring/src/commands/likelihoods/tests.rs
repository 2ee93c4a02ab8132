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
    score(decoder, &budget, (requests, longest), &mut Clock::default(), &mut ())
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
    let got = amount(decoder.as_ref(), &[request(1), request(3), request(4)], 40).unwrap();
    let activations = 25 * decoder.hidden_size() * 4;
    assert_eq!(got, Amount { requests: 3, tokens: 20 + 22 + 23, computed: 25, rounds: 1, activations });
    assert_eq!(amount(decoder.as_ref(), &[], 40).unwrap(), Amount::default());
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
