//! Scales from values to a height or width, with round numbers at their ends.

/// Largest over smallest value from which on a scale is logarithmic.
const LOGARITHMIC: f64 = 8.0;
/// Decades up to which a logarithmic scale says 2 and 5 as well as 1, and the most steps of a longer one.
const FINE: f64 = 2.5;
const DECADES: f64 = 7.0;
/// The smallest and the largest number that a scale tells from 0 and from larger ones: a report may hold any.
const ENDS: (f64, f64) = (1e-30, 1e30);
/// Numbers that are written in full; an axis with a smaller or larger one has powers of ten.
const PLAIN: std::ops::Range<f64> = 1e-4..1e5;

/// Scale from values to a length.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// Round numbers from its lower to its upper end, at least two.
    ticks: Vec<f64>,
    logarithmic: bool,
}

impl Scale {
    /// One that holds all of these: logarithmic where they span enough, otherwise from 0 on.
    pub fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        Self::logarithmic(values.clone()).unwrap_or_else(|| {
            let high = values.map(within).fold(0.0, f64::max);
            Self::even(0.0, if high > 0.0 { high } else { 1.0 })
        })
    }

    /// One that holds all of these and little else: logarithmic where they span enough, otherwise from a round number below
    /// the smallest to one above the largest.
    pub fn around(values: impl Iterator<Item = f64> + Clone) -> Self {
        Self::logarithmic(values.clone()).unwrap_or_else(|| {
            let (low, high) = ends(values.map(within));
            // Values that are nearly the same get a scale around them.
            let least = (0.02 * high).max(ENDS.0);
            let more = (least - (high - low)).max(0.0) / 2.0;
            Self::even((low - more).max(0.0), high + more)
        })
    }

    /// A logarithmic one, where values span enough for it.
    fn logarithmic(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = ends(values.map(within).filter(|&value| value > 0.0));
        if !(low > 0.0 && high / low >= LOGARITHMIC) {
            return None;
        }
        let decades = (high / low).log10();
        let leads: &[f64] = if decades > FINE { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let step = if decades > FINE { (decades / DECADES).ceil() as i32 } else { 1 };
        let first = (low.log10().floor() as i32).div_euclid(step) * step;
        let last = (high.log10().ceil() as i32).div_euclid(step) * step + step;
        let exponents = (first..=last).step_by(step as usize);
        let all: Vec<f64> = exponents.flat_map(|e| leads.iter().map(move |lead| lead * 10f64.powi(e))).collect();
        // Digits that came out a hair short are whole.
        let from = all.iter().rposition(|tick| *tick <= low * (1.0 + 1e-9)).unwrap_or(0);
        let to = all.iter().position(|tick| *tick >= high * (1.0 - 1e-9)).unwrap_or(all.len() - 1);
        Some(Self { ticks: all[from..=to].to_vec(), logarithmic: true })
    }

    /// Four to seven even steps over a range.
    fn even(low: f64, high: f64) -> Self {
        let rough = (high - low).max(ENDS.0) / 5.0;
        let power = 10f64.powi(rough.log10().floor() as i32);
        let lead = [1.0, 2.0, 5.0].into_iter().find(|lead| rough <= lead * power * (1.0 + 1e-9)).unwrap_or(10.0);
        let step = lead * power;
        let (from, to) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let count = (to - from).clamp(1.0, 10.0) as usize;
        Self { ticks: (0..=count).map(|i| (from + i as f64) * step).collect(), logarithmic: false }
    }

    /// True where equal lengths are equal ratios.
    pub fn is_logarithmic(&self) -> bool {
        self.logarithmic
    }

    /// Position of a value, in per cent of the length from the upper end; one beyond an end is at that end.
    pub fn at(&self, value: f64) -> f64 {
        let value = if value > 0.0 { value } else { 0.0 };
        let (low, high) = ends(self.ticks.iter().copied());
        let share = match self.logarithmic {
            true => (value / low).ln() / (high / low).ln(),
            false => (value - low) / (high - low),
        };
        100.0 * (1.0 - share.clamp(0.0, 1.0))
    }

    /// Numbers beside the length with their positions, from the lowest up, all in one format: decimals, or powers of ten where
    /// one is too small or too large for those.
    pub fn labels(&self) -> Vec<(f64, String)> {
        let plain = self.ticks.iter().all(|&tick| tick == 0.0 || PLAIN.contains(&(tick * (1.0 + 1e-9))));
        let step = self.ticks[1] - self.ticks[0];
        let decimals = (-(step * (1.0 + 1e-9)).log10().floor()).max(0.0) as usize;
        let text = |tick: f64| match (plain, self.logarithmic) {
            (true, false) => format!("{tick:.decimals$}"),
            (true, true) => format!("{tick:.6}").trim_end_matches('0').trim_end_matches('.').to_string(),
            (false, _) => power(tick),
        };
        self.ticks.iter().map(|&tick| (self.at(tick), text(tick))).collect()
    }
}

/// The smallest and the largest of these; 0 where there are none.
fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
    (if low.is_finite() { low } else { 0.0 }, high)
}

/// The nearest number that a scale tells from others.
fn within(value: f64) -> f64 {
    if value > 0.0 { value.clamp(ENDS.0, ENDS.1) } else { 0.0 }
}

/// A round number with a power of ten: `10⁻⁵`, `2×10⁶`.
fn power(value: f64) -> String {
    if value == 0.0 {
        return "0".to_string();
    }
    let exponent = (value * (1.0 + 1e-9)).log10().floor() as i32;
    let raised: String = exponent.to_string().chars().map(superscript).collect();
    let lead = format!("{:.1}", value / 10f64.powi(exponent));
    match lead.trim_end_matches('0').trim_end_matches('.') {
        "1" => format!("10{raised}"),
        lead => format!("{lead}×10{raised}"),
    }
}

fn superscript(c: char) -> char {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    c.to_digit(10).map_or('⁻', |digit| DIGITS[digit as usize])
}
