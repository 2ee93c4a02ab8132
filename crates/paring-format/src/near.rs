//! Names that a wrong one may have been meant as.

/// Letters of a name that are compared: distances take the time of both lengths, and no name is that long.
const LONGEST: usize = 128;
/// Edits at most between a name and what it was meant as, however long it is.
const FARTHEST: usize = 3;
/// Names that are suggested at most.
const MOST: usize = 3;

/// Advice on an unknown name: the nearest known ones, if any are near enough to be meant, or else all of them.
/// Letters are compared without case, hyphens, underscores and dots.
pub fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    did_you_mean(name, known.iter().copied()).unwrap_or_else(|| format!("known: {}", known.join(", ")))
}

/// The question for the nearest known names; `None` where none is near enough to be meant. Costs the product of both lengths
/// for each name.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let near = nearest(name, known);
    let (last, others) = near.split_last()?;
    Some(match others {
        [] => format!("did you mean {last}?"),
        others => format!("did you mean {} or {last}?", others.join(", ")),
    })
}

/// The known names that are nearest to `name`, in their order.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let typed = plain(name);
    let apart = |known: &'a str| {
        let other = plain(known);
        let far = (typed.len().max(other.len()) + 1) / 3;
        let apart = strsim::osa_distance(&typed, &other);
        (apart <= far.clamp(1, FARTHEST)).then_some((apart, known))
    };
    let apart: Vec<(usize, &str)> = known.into_iter().filter_map(apart).collect();
    let least = apart.iter().map(|(apart, _)| *apart).min();
    apart.into_iter().filter(|(apart, _)| Some(*apart) == least).map(|(_, known)| known).take(MOST).collect()
}

fn plain(name: &str) -> String {
    name.chars().take(LONGEST).filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests;
