//! The cheapest options under a budget.

/// An option of a unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Priced {
    /// Its part of the budget.
    pub size: u64,
    /// Its loss, 0 or more.
    pub loss: f64,
}

/// A step from an option to a larger one that loses less.
struct Step {
    unit: usize,
    from: usize,
    to: usize,
    gain: f64,
}

/// The option of each unit, so that their sizes are `budget` or less together and their losses small: along the lower convex
/// hull of each unit's options, the steps with the largest gain for their size first (the greedy solution of the
/// multiple-choice knapsack problem, which is within one step of the best), and then what still fits. `None` where not even
/// the smallest options fit. Equal gains go to the first unit.
///
/// About n·log n operations for n options.
///
/// # Panics
/// If a unit has no options.
pub fn solve(units: &[Vec<Priced>], budget: u64) -> Option<Vec<usize>> {
    let hulls: Vec<Vec<usize>> = units.iter().map(|options| hull(options)).collect();
    let mut chosen: Vec<usize> = hulls.iter().map(|hull| hull[0]).collect();
    let size = |chosen: &[usize]| chosen.iter().zip(units).map(|(&at, options)| options[at].size).sum::<u64>();
    let mut left = budget.checked_sub(size(&chosen))?;
    let mut steps: Vec<Step> = Vec::new();
    for (unit, (hull, options)) in hulls.iter().zip(units).enumerate() {
        let step = |pair: &[usize]| {
            let (from, to) = (options[pair[0]], options[pair[1]]);
            let gain = (from.loss - to.loss) / (to.size - from.size) as f64;
            Step { unit, from: pair[0], to: pair[1], gain }
        };
        steps.extend(hull.windows(2).map(step));
    }
    // Gains of a hull fall, and the sort keeps the order of equal ones: no step comes before the one that it follows.
    steps.sort_by(|a, b| b.gain.total_cmp(&a.gain));
    for Step { unit, from, to, .. } in steps {
        let more = units[unit][to].size - units[unit][from].size;
        if chosen[unit] == from && more <= left {
            chosen[unit] = to;
            left -= more;
        }
    }
    fill(units, &mut chosen, left);
    Some(chosen)
}

/// The options that no mixture of two others beats, from the smallest, each losing less than the one before.
fn hull(options: &[Priced]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..options.len()).collect();
    order.sort_by(|&a, &b| {
        let (x, y) = (options[a], options[b]);
        x.size.cmp(&y.size).then(x.loss.total_cmp(&y.loss)).then(a.cmp(&b))
    });
    let slope = |a: usize, b: usize| (options[a].loss - options[b].loss) / (options[b].size - options[a].size) as f64;
    let mut hull: Vec<usize> = Vec::new();
    for at in order {
        if hull
            .last()
            .is_some_and(|&last| options[at].loss >= options[last].loss || options[at].size == options[last].size)
        {
            continue;
        }
        while hull.len() >= 2 && slope(hull[hull.len() - 2], hull[hull.len() - 1]) <= slope(hull[hull.len() - 1], at) {
            hull.pop();
        }
        hull.push(at);
    }
    hull
}

/// Spends what is left on single exchanges, the one that gains most for its size first.
fn fill(units: &[Vec<Priced>], chosen: &mut [usize], mut left: u64) {
    loop {
        let mut best: Option<Step> = None;
        for (unit, options) in units.iter().enumerate() {
            let now = options[chosen[unit]];
            for (to, option) in options.iter().enumerate() {
                let Some(more) = option.size.checked_sub(now.size).filter(|more| *more > 0 && *more <= left) else {
                    continue;
                };
                let gain = (now.loss - option.loss) / more as f64;
                if gain > best.as_ref().map_or(0.0, |best| best.gain) {
                    best = Some(Step { unit, from: chosen[unit], to, gain });
                }
            }
        }
        let Some(Step { unit, from, to, .. }) = best else { return };
        left -= units[unit][to].size - units[unit][from].size;
        chosen[unit] = to;
    }
}
