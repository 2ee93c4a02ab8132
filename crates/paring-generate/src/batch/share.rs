//! Prompts that begin alike are computed once: the others wait for the first one, and continue from a copy of it.

use super::job::Job;
use crate::Result;
use crate::engine::{LEAST_SHARED, common};

/// The tokens that a prompt which was not begun can take from those before it in the batch.
enum Found {
    Nothing,
    /// Another one is about to compute so many tokens of it.
    Soon,
    /// The first so many tokens of the job of this number are its own.
    Now(usize, usize),
}

/// Gives prompts that were not begun what others before them have computed. Returns the jobs that wait for more of it.
pub(super) fn share(jobs: &mut [Job]) -> Result<Vec<bool>> {
    let mut waits = vec![false; jobs.len()];
    for number in 1..jobs.len() {
        match find(&jobs[..number], &jobs[number]) {
            Found::Nothing => {}
            Found::Soon => waits[number] = true,
            Found::Now(from, tokens) => {
                jobs[number].sequence = jobs[from].sequence.prefix(tokens)?;
            }
        }
    }
    Ok(waits)
}

fn find(before: &[Job], job: &Job) -> Found {
    // All logits of a prompt are made where its probabilities are asked for.
    if job.is_begun() || job.prompt_logprobs.is_some() {
        return Found::Nothing;
    }
    let own = job.sequence.len();
    let mut best = (own + LEAST_SHARED, Found::Nothing);
    for (number, other) in before.iter().enumerate() {
        // The logits after a prompt's last token are its own.
        let seen = other.sequence.common(&job.prompt).min(job.prompt.len() - 1);
        let coming = common(&other.prompt, &job.prompt).min(job.prompt.len() - 1).max(seen);
        if coming >= best.0 {
            best = (coming + 1, if seen == coming { Found::Now(number, seen) } else { Found::Soon });
        }
    }
    best.1
}
