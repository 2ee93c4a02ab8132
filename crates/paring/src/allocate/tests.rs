use super::*;

fn linear(name: &str, cols: usize, fused: Option<usize>) -> LinearInfo {
    LinearInfo { name: name.into(), rows: 4, cols, fan: 0, fused }
}

fn priced(options: &[(u64, f64)]) -> Vec<Priced> {
    options.iter().map(|&(size, loss)| Priced { size, loss }).collect()
}

fn cost(units: &[Vec<Priced>], chosen: &[usize]) -> (u64, f64) {
    let picked = || chosen.iter().zip(units).map(|(&at, options)| options[at]);
    (picked().map(|p| p.size).sum(), picked().map(|p| p.loss).sum())
}

/// The least loss of all combinations within a budget.
fn best(units: &[Vec<Priced>], budget: u64) -> f64 {
    let Some((first, rest)) = units.split_first() else { return 0.0 };
    let within = first.iter().filter(|option| option.size <= budget);
    within.map(|option| option.loss + best(rest, budget - option.size)).fold(f64::INFINITY, f64::min)
}

#[test]
fn the_budget_goes_where_it_gains_most() {
    let units = [priced(&[(2, 8.0), (3, 4.0), (4, 1.0)]), priced(&[(2, 1.0), (3, 0.5), (4, 0.1)])];
    assert_eq!(solve(&units, 3), None);
    assert_eq!(solve(&units, 4), Some(vec![0, 0]));
    assert_eq!(solve(&units, 6), Some(vec![2, 0]));
    assert_eq!(solve(&units, 7), Some(vec![2, 1]));
    assert_eq!(solve(&units, 100), Some(vec![2, 2]));
    // Equal gains go to the first unit.
    let alike = [priced(&[(2, 1.0), (3, 0.5)]), priced(&[(2, 1.0), (3, 0.5)])];
    assert_eq!(solve(&alike, 5), Some(vec![1, 0]));
    // A larger option that loses as much is no use; one off the hull fills what is left.
    assert_eq!(solve(&[priced(&[(2, 1.0), (3, 1.0)])], 9), Some(vec![0]));
    assert_eq!(solve(&[priced(&[(2, 8.0), (3, 7.5), (4, 1.0)])], 3), Some(vec![1]));
}

#[test]
fn greedy_choices_are_near_the_best_ones() {
    let mut state = 7u32;
    let mut next = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    for _ in 0..200 {
        let unit = |next: &mut dyn FnMut(u32) -> u32| {
            let weights = u64::from(1 + next(4));
            let scale = f64::from(1 + next(100));
            let option = |bits: u64| (bits * weights, scale * 0.25f64.powi(bits as i32) * f64::from(80 + next(40)));
            priced(&[2u64, 3, 4, 5, 8].map(option))
        };
        let units: Vec<Vec<Priced>> = (0..5).map(|_| unit(&mut next)).collect();
        let least: u64 = units.iter().map(|options| options[0].size).sum();
        let budget = least + u64::from(next(40));
        let (size, loss) = cost(&units, &solve(&units, budget).unwrap());
        assert!(size <= budget);
        // A step of the largest unit is left at most.
        let bound = best(&units, budget.saturating_sub(4 * 4).max(least));
        assert!(loss <= bound * (1.0 + 1e-9), "{loss} where {bound} is possible");
    }
}

#[test]
fn what_servers_fuse_stays_together() {
    let linears = [
        linear("q", 64, Some(0)),
        linear("k", 64, Some(0)),
        linear("o", 48, None),
        linear("gate", 64, Some(1)),
        linear("lone", 48, None),
        linear("up", 64, Some(1)),
    ];
    let units = Unit::of_block(3, linears);
    let names = |unit: &Unit| unit.linears.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join(" ");
    assert_eq!(units.iter().map(names).collect::<Vec<_>>(), ["q k", "o", "gate up", "lone"]);
    assert_eq!((units[0].weights(), units[0].block), (512, 3));
    // 48 columns are in no groups of 32 or more.
    let sizes = |unit: &Unit| unit.grids(true).iter().filter(|s| matches!(s, Setting::Grid { bits: 3, .. })).count();
    assert_eq!((sizes(&units[0]), sizes(&units[1]), units[1].grids(false).len()), (3, 1, BITS.len()));
    let given = allotted(&units, &[2, 4, 2, 4].map(|bits| Setting::Grid { bits, group_size: None }));
    assert_eq!(given[0].linears, ["q", "k", "gate", "up"]);
    assert_eq!(given[1].linears, ["o", "lone"]);
}

#[test]
fn losses_lie_between_those_that_were_measured() {
    let measured = measured_sparsities(0.5);
    assert_eq!(measured.len(), 7);
    assert_eq!(measured[3], Setting::Sparsity(5000));
    // A loss that doubles with every 5 %.
    let losses: Vec<(Setting, f64)> =
        measured.iter().enumerate().map(|(i, setting)| (*setting, 2f64.powi(i as i32))).collect();
    let options = sparsity_options(0.5, 10, &losses);
    assert_eq!(options.len(), 31);
    let at = |parts: u32| options.iter().find(|(s, _)| *s == Setting::Sparsity(parts)).unwrap().1;
    assert!(at(5000).size == 50_000 && (at(5000).loss - 8.0).abs() < 1e-9);
    assert!((at(4700).loss - 8.0 / 2f64.powf(0.6)).abs() < 1e-9);
    assert!(options.windows(2).all(|pair| pair[0].1.size > pair[1].1.size && pair[0].1.loss < pair[1].1.loss));
    // Near 0 and 1 there are fewer.
    assert_eq!(
        measured_sparsities(0.0),
        [Setting::Sparsity(0)].into_iter().chain((1..4).map(|k| Setting::Sparsity(500 * k))).collect::<Vec<_>>()
    );
    assert_eq!(measured_sparsities(0.99).last(), Some(&Setting::Sparsity(9900)));
    assert!(sparsity_options(0.5, 10, &losses[..1]).iter().all(|(_, priced)| (priced.loss - 1.0).abs() < 1e-9));
}

#[test]
fn blocks_with_outliers_keep_more() {
    let (first, second, norms) = ([1.0, -1.0, 1.0, 1.0], [1.0, 1.0, 1.0, -50.0], [1.0, 2.0]);
    let sum = owl::sum(&first, &norms) + owl::sum(&second, &norms);
    assert_eq!(sum, 6.0 + 104.0);
    let outliers = [first, second].map(|weight| owl::outliers(&weight, &norms, sum / 8.0));
    assert_eq!(outliers, [0, 1]);
    let blocks = [(0.01, 100), (0.03, 100), (0.02, 100)];
    // As the published code: kept = (D - min) / (max - min) * 2λ, minus its mean, plus 1 - S.
    assert_eq!(owl::sparsities(&blocks, 0.7), [7800, 6200, 7000]);
    assert_eq!(owl::sparsities(&[(0.01, 100), (0.01, 300)], 0.5), [5000, 5000]);
    let uneven = [(0.01, 100), (0.03, 300)];
    let made = owl::sparsities(&uneven, 0.5);
    assert_eq!((made[0] * 100 + made[1] * 300) / 400, 5000, "{made:?}");
}
