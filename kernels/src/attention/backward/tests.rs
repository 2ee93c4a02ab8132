//! Unit tests of the backward pass of attention.

use candle_core::Device;

use super::super::{causal_kept, reference};
use super::*;
use crate::cases::attention::slopes;
use crate::cases::flat;
use crate::gradient::numeric::{check, dot, off, values};

#[test]
fn the_reference_is_the_gradient() {
    let (t, d, scale) = (7, 3, 0.6);
    let (q, k, v, dy) = (values(21, 1.0, 1), values(21, 1.0, 2), values(21, 1.0, 3), values(21, 1.0, 4));
    for (window, bias) in [(usize::MAX, vec![0.0; t]), (3, values(t, 1.0, 5))] {
        let [dq, dk, dv] = reference::backward(&dy, [&q, &k, &v], d, scale, window, &bias);
        let loss = |q: &[f64], k: &[f64], v: &[f64]| dot(&dy, &reference::value([q, k, v], d, scale, window, &bias));
        check("dq", &q, &dq, |q| loss(q, &k, &v));
        check("dk", &k, &dk, |k| loss(&q, k, &v));
        check("dv", &v, &dv, |v| loss(&q, &k, v));
    }
}

fn random((b, t, heads, d): (usize, usize, usize, usize), seed: u64) -> Tensor {
    Tensor::from_vec(crate::test_values(b * t * heads * d, 1.0, seed), (b, t, heads, d), &Device::Cpu).unwrap()
}

/// The values of one head of one sequence, in f64.
fn of_head(x: &Tensor, sequence: usize, head: usize) -> Vec<f64> {
    let x = x.narrow(0, sequence, 1).unwrap().narrow(2, head, 1).unwrap();
    flat(&x).unwrap().into_iter().map(f64::from).collect()
}

#[test]
fn the_fast_form_is_the_reference() {
    // Parts of tiles, several of them, heads wider than a panel, groups of heads, windows and biases.
    for (t, heads, groups, d, window, biased) in [
        (1, 2, 1, 4, None, false),
        (70, 4, 2, 16, None, false),
        (330, 2, 2, 80, Some(90), false),
        (300, 3, 1, 8, None, true),
        (130, 2, 1, 64, Some(1), true),
    ] {
        let (q, k, v) = (random((2, t, heads, d), 1), random((2, t, groups, d), 2), random((2, t, groups, d), 3));
        let dy = random((2, t, heads, d), 4);
        let bias = biased.then(|| slopes(heads, t, &Device::Cpu).unwrap());
        let scores = Scores { scale: 0.3, window, bias: bias.as_ref() };
        let kept = causal_kept(&q, &k, &v, &scores).unwrap();
        let upstream = dy.reshape((2, t, heads * d)).unwrap();
        let got = causal_backward(&upstream, [&q, &k, &v], &kept, &scores).unwrap();
        let mut wanted = [vec![], vec![], vec![]];
        for sequence in 0..2 {
            for group in 0..groups {
                let (mut dk, mut dv) = (vec![0.0; t * d], vec![0.0; t * d]);
                for head in group * heads / groups..(group + 1) * heads / groups {
                    let bias = match &bias {
                        Some(bias) => flat(&bias.get(head).unwrap()).unwrap(),
                        None => vec![0.0; t],
                    };
                    let bias: Vec<f64> = bias.into_iter().map(f64::from).collect();
                    let x = [(&q, head), (&k, group), (&v, group)].map(|(x, head)| of_head(x, sequence, head));
                    let window = window.unwrap_or(usize::MAX);
                    let [dq, more_k, more_v] = reference::backward(
                        &of_head(&dy, sequence, head),
                        [&x[0], &x[1], &x[2]],
                        d,
                        f64::from(0.3f32),
                        window,
                        &bias,
                    );
                    wanted[0].push((sequence, head, dq));
                    dk.iter_mut().zip(&more_k).for_each(|(dk, more)| *dk += more);
                    dv.iter_mut().zip(&more_v).for_each(|(dv, more)| *dv += more);
                }
                wanted[1].push((sequence, group, dk));
                wanted[2].push((sequence, group, dv));
            }
        }
        for ((got, wanted), name) in got.iter().zip(&wanted).zip(["dq", "dk", "dv"]) {
            for (sequence, head, want) in wanted {
                let head_got: Vec<f32> = of_head(got, *sequence, *head).iter().map(|&v| v as f32).collect();
                if want.iter().all(|want| want.abs() < 1e-12) {
                    // One key in sight takes all, and nothing moves its share: what is left is the rounding of two sums of up to
                    // 64 products in two orders, some 8 in size, times a key of up to 4.
                    assert!(head_got.iter().all(|got| got.abs() < 3e-5), "{name} of {t} tokens");
                } else {
                    assert!(off(&head_got, want) < 1e-5, "{name} of {t} tokens, {}", off(&head_got, want));
                }
            }
        }
    }
}

#[test]
fn gradients_do_not_depend_on_the_number_of_threads() {
    let (q, k, v) = (random((2, 200, 4, 32), 1), random((2, 200, 2, 32), 2), random((2, 200, 2, 32), 3));
    let dy = random((2, 200, 4, 32), 4).reshape((2, 200, 128)).unwrap();
    let scores = Scores { scale: 0.2, window: Some(70), bias: None };
    let run = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let kept = causal_kept(&q, &k, &v, &scores).unwrap();
            causal_backward(&dy, [&q, &k, &v], &kept, &scores).unwrap().map(|x| flat(&x).unwrap())
        })
    };
    let one = run(1);
    assert!([2, 3, 7].into_iter().all(|threads| run(threads) == one));
}

#[test]
fn wrong_shapes_are_errors() {
    let (q, k) = (random((1, 3, 2, 4), 1), random((1, 3, 1, 4), 2));
    let scores = Scores::scaled(1.0);
    let kept = causal_kept(&q, &k, &k, &scores).unwrap();
    let dy = random((1, 3, 2, 4), 3);
    assert!(causal_backward(&dy, [&q, &k, &k], &kept, &scores).is_err());
    let dy = dy.reshape((1, 3, 8)).unwrap();
    assert!(causal_backward(&dy, [&q, &k, &q], &kept, &scores).is_err());
    assert!(causal_backward(&dy.narrow(1, 0, 2).unwrap(), [&q, &k, &k], &kept, &scores).is_err());
    assert!(causal_backward(&dy, [&q, &k, &k], &kept, &scores).is_ok());
    let none = random((1, 0, 2, 4), 1);
    let kept = causal_kept(&none, &none, &none, &scores).unwrap();
    let dy = none.reshape((1, 0, 8)).unwrap();
    assert_eq!(causal_backward(&dy, [&none, &none, &none], &kept, &scores).unwrap()[0].dims(), [1, 0, 2, 4]);
}
