//! Steps and times in a few words.

use std::time::Duration;

use paring::report::Stage;
use paring::report::progress::Step;

/// A step in words, without the number of its block.
pub fn doing(step: &Step<'_>) -> String {
    let what = match step.stage {
        Stage::Read => "reading weights",
        Stage::Forward => "forward pass",
        Stage::Gram => "statistics",
        Stage::Factor => "factor",
        Stage::Sweep => "sweep",
        Stage::Error => "errors",
        Stage::Pack => "packing",
        Stage::Write => "writing",
        Stage::Check => "checking the output",
        Stage::Head => "head",
    };
    let module = step.module.map_or(String::new(), |name| format!(" of {}", short(name)));
    // The batch of windows that is at work now.
    let count = step.count.map_or(String::new(), |(done, of)| format!(", window {}/{of}", (done + 1).min(of)));
    format!("{what}{module}{count}")
}

/// The last two parts of a module path: `mlp.down_proj`.
fn short(name: &str) -> &str {
    name.rmatch_indices('.').nth(1).map_or(name, |(at, _)| &name[at + 1..])
}

/// `42 s`, `3:09 min`, `1:02:03 h`.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m}:{s:02} min"),
        (h, m, s) => format!("{h}:{m:02}:{s:02} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_times_are_short() {
        let gram = Step::new(Stage::Gram).block(3);
        assert_eq!(doing(&gram.count(0, 128)), "statistics, window 1/128");
        assert_eq!(doing(&gram.count(128, 128)), "statistics, window 128/128");
        assert_eq!(doing(&Step::new(Stage::Sweep).module("model.layers.3.mlp.down_proj")), "sweep of mlp.down_proj");
        assert_eq!(doing(&Step::new(Stage::Factor).module("lm_head")), "factor of lm_head");
        for (seconds, want) in
            [(0, "0 s"), (59, "59 s"), (189, "3:09 min"), (3723, "1:02:03 h"), (360_000, "100:00:00 h")]
        {
            assert_eq!(time(Duration::from_secs(seconds)), want);
        }
    }
}
