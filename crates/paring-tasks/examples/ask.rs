//! Asks a model that finds everything equally likely.

use std::path::Path;

use paring_data::tokenizer::tokenizer_from;
use paring_tasks::{Files, Options, Plan, Score};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = Path::new("model/tokenizer.json");
    let tokenizer = tokenizer_from(&std::fs::read(path)?, path)?;
    let plan = Plan::new(["piqa", "arc_easy"])?.with_file("questions.jsonl".into())?;
    let files = Files { dir: Some(Path::new("data")), remote: None };
    let longest = 2048;
    let work = plan.prepare(&Options::default(), &files, &tokenizer, longest)?;
    let answer = |request: &paring_tasks::Request| {
        // A model sees `input`, and predicts the continuation from its position `first` on.
        let (input, first) = request.input(longest);
        Score { loglikelihood: -((input.len() - first) as f64) * 50_000_f64.ln(), is_greedy: false }
    };
    let scores: Vec<Score> = work.requests.iter().map(answer).collect();
    for result in work.results(&scores)? {
        println!("{} {:?}", result.task, result.metrics);
    }
    Ok(())
}
