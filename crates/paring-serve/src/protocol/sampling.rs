//! The fields that both kinds of requests have.

use paring_generate::Settings;
use serde_json::Value;

use super::fields::{Fields, wrong};
use super::{Ask, Kind, Prompt};
use crate::problem::Problem;

/// Stop strings of a request, at most.
const STOPS: usize = 4;
/// Temperatures below are as good as 0, which takes the best token.
const COLD: f32 = 1e-5;
/// Fields for tools, all of which would change the answer.
const TOOLS: [&str; 2] = ["tools", "functions"];

/// A request to which its own fields are still to be added.
pub fn ask(kind: Kind, prompts: Vec<Prompt>, fields: &mut Fields, choices: usize) -> Result<Ask, Problem> {
    let n = fields.count("n", 1..=choices)?.unwrap_or(1);
    if prompts.len().saturating_mul(n) > choices {
        let asked = format!("{} prompts with {n} answers each are more than {choices} in a request", prompts.len());
        return Err(Problem::field("n", asked));
    }
    fields.refuse("best_of", |value| value.as_u64() == Some(n as u64), "has to be equal to n here")?;
    let stream = fields.flag("stream")?;
    let with_usage = match fields.object("stream_options")? {
        Some(mut options) => options.flag("include_usage")? && stream,
        None => false,
    };
    for name in TOOLS {
        fields.refuse(name, |value| value.as_array().is_some_and(Vec::is_empty), "this server calls no tools")?;
    }
    let plain = |value: &Value| value.get("type").and_then(Value::as_str) == Some("text");
    fields.refuse("response_format", plain, "only {\"type\": \"text\"} is possible here")?;
    fields.refuse("suffix", |value| value == "", "a text can only be continued at its end")?;
    let older = fields.count("max_tokens", 0..=usize::MAX)?;
    let newer = fields.count("max_completion_tokens", 0..=usize::MAX)?;
    let (settings, seed) = settings(fields)?;
    Ok(Ask {
        kind,
        model: fields.text("model")?,
        prompts,
        n,
        most: newer.or(older),
        most_name: if newer.is_some() { "max_completion_tokens" } else { "max_tokens" },
        settings,
        seed,
        ignores_eos: fields.flag("ignore_eos")?,
        echo: false,
        logprobs: None,
        stream,
        with_usage,
    })
}

fn settings(fields: &mut Fields) -> Result<(Settings, Option<u64>), Problem> {
    let temperature = fields.number("temperature", 0.0..=100.0)?.unwrap_or(1.0);
    // −1 is another word for all.
    let top_k = fields.whole("top_k")?.unwrap_or(0);
    let top_k = usize::try_from(top_k.max(0)).ok().filter(|_| top_k >= -1);
    let settings = Settings {
        do_sample: temperature >= COLD,
        temperature: if temperature >= COLD { temperature } else { 1.0 },
        top_k: top_k.ok_or_else(|| Problem::field("top_k", "expected at least -1"))?,
        top_p: fields.number("top_p", f32::MIN_POSITIVE..=1.0)?.unwrap_or(1.0),
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(0.0),
        repetition_penalty: fields.number("repetition_penalty", 0.01..=100.0)?.unwrap_or(1.0),
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        min_new_tokens: fields.count("min_tokens", 0..=usize::MAX)?.unwrap_or(0),
        logit_bias: logit_bias(fields)?,
        stop: stop(fields)?,
        ..Settings::default()
    };
    Ok((settings, fields.whole("seed")?.map(|seed| seed as u64)))
}

fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, Problem> {
    let Some(biases) = fields.object("logit_bias")? else { return Ok(Vec::new()) };
    let one = |(id, value): (String, Value)| {
        let token = id.parse().map_err(|_| wrong("logit_bias", "token ids", &Value::String(id)))?;
        let bias = value.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        Ok((token, bias.ok_or_else(|| wrong("logit_bias", "numbers from -100 to 100", &value))? as f32))
    };
    biases.into_inner().into_iter().map(one).collect()
}

fn stop(fields: &mut Fields) -> Result<Vec<String>, Problem> {
    const EXPECTED: &str = "a string, or a list of up to 4, none of them empty";
    let Some(value) = fields.take("stop") else { return Ok(Vec::new()) };
    let texts: Option<Vec<String>> = match &value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(list) => list.iter().map(|text| text.as_str().map(String::from)).collect(),
        _ => None,
    };
    let fits = |texts: &Vec<String>| texts.len() <= STOPS && texts.iter().all(|text| !text.is_empty());
    texts.filter(fits).ok_or_else(|| wrong("stop", EXPECTED, &value))
}
