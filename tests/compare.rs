//! `paring verify --reference`: two models on the same tokens.

mod support;

use support::*;

const DATA: &str = "--data eval.safetensors --tokens 128 --seqlen 32 --quiet";

#[test]
fn a_model_is_itself() {
    let sandbox = Sandbox::new();
    let result = sandbox.json(&format!("verify model --reference model {DATA} --max-kl 0 --min-top1 1"));
    let compared = &result["comparison"];
    assert_eq!((&compared["mean_kl"], &compared["max_kl"]), (&0.0.into(), &0.0.into()));
    assert_eq!((&compared["top1_agreement"], &compared["perplexity_ratio"]), (&1.0.into(), &1.0.into()));
    assert_eq!((&compared["windows"], &compared["tokens"], &compared["seqlen"]), (&4.into(), &128.into(), &32.into()));
    assert_eq!(result["ok"], true);
    // Fewer tokens than a window has are one window.
    let short = sandbox.json("verify model --reference model --data eval.safetensors --tokens 20 --quiet");
    assert_eq!(short["comparison"]["tokens"], 20);
}

#[test]
fn how_far_a_compressed_model_is() {
    let sandbox = Sandbox::new();
    sandbox.ok("quantize model calib.safetensors --wbits 3 --groupsize 16 --quiet --out made");
    let compared = sandbox.json(&format!("verify made --reference model {DATA}"))["comparison"].clone();
    let number = |key: &str| compared[key].as_f64().unwrap();
    assert!(number("mean_kl") > 0.0 && number("max_kl") >= number("mean_kl"), "{compared}");
    assert!((0.0..1.0).contains(&number("top1_agreement")), "{compared}");
    assert!((number("perplexity") / number("reference_perplexity") - number("perplexity_ratio")).abs() < 1e-12);
    // As eval measures it, which sums likelihoods in another way.
    for (key, model) in [("perplexity", "made"), ("reference_perplexity", "model")] {
        let eval = sandbox.json(&format!("eval {model} eval.safetensors --seqlen 32 --limit 4 --quiet"));
        let eval = eval["perplexity"].as_f64().unwrap();
        assert!((number(key) / eval - 1.0).abs() < 1e-5, "{key}: {} and {eval}", number(key));
    }
    let text = sandbox.ok(&format!("verify made --reference model {DATA}")).stdout;
    assert!(
        ["nats on average", "compared with model", "; same top token "].iter().all(|word| text.contains(word)),
        "{text}"
    );
    let mean = number("mean_kl");
    sandbox.ok(&format!("verify made --reference model {DATA} --max-kl {}", mean * 1.01));
    let run = format!("verify made --reference model {DATA} --max-kl {} --min-top1 1", mean * 0.99);
    sandbox.refused(&run, 1, &["made against model", "--max-kl", "--min-top1 1"]).unwrap();
}

#[test]
fn what_cannot_be_compared() {
    let sandbox = Sandbox::new();
    sandbox.refused("verify model --max-kl 0.1", 2, &["--reference"]).unwrap();
    sandbox.refused("verify model --reference model", 2, &["--reference needs text", "--data"]).unwrap();
    sandbox.refused(&format!("verify model --reference model {DATA} --max-kl nan"), 2, &["--max-kl"]).unwrap();
    let words = ["vocabulary of", "but the reference has "];
    sandbox.refused(&format!("verify model --reference demo {DATA}"), 1, &words).unwrap();
    sandbox.refused(&format!("verify model --reference nowhere {DATA}"), 1, &["nowhere: not found"]).unwrap();
}
