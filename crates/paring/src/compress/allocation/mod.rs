//! Settings for each linear, measured before the run.
//!
//! One walk over the dense model: of each linear the error of every option on some of its rows, from the recipe's own sweep on
//! the Gram matrix; and of each unit, compressed alone by one of them, the divergence of the model's predictions. Then
//! [`crate::allocate`] chooses. The journal keeps the choice, so that a resumed run has the same.

mod measure;
mod owl;
mod streams;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use paring_format::Dtype;
use paring_format::message::Message;
use paring_model::LinearInfo;

use super::schemes::Kind;
use super::select::Selection;
use super::start::Started;
use super::{Job, stored, warnings};
use crate::allocate::{Priced, Unit, allotted, measured_sparsities, parts, solve, sparsity_options};
use crate::output::journal::{Found, Line};
use crate::plan::allocation::{Allotted, PARTS, Setting, SparsityBy};
use crate::plan::{Allocation, Choice, Opt, Pattern, Plan, Recipe};
use crate::report::progress::{Observer, spelled};
use crate::report::words::plural;
use crate::report::{Clock, Stage};
use crate::{Error, Result};
use paring_data::Windows;

use measure::Measured;

/// Tokens per feature of the widest linear: enough for a Gram matrix of full rank.
const TOKENS_PER_FEATURE: usize = 2;

/// An option of some units, and what follows from it.
struct Candidate {
    setting: Setting,
    recipe: Recipe,
    kind: Kind,
}

/// The units of a plan, and the options of each, as numbers of candidates.
pub(super) struct Units {
    units: Vec<Unit>,
    candidates: Vec<Candidate>,
    options: Vec<Vec<usize>>,
    /// The option of each unit by which its effect is measured, a place in its options: the one that all units would have
    /// if they were alike.
    usual: Vec<usize>,
}

impl Units {
    /// Of the linears that the plan compresses. Errors when bits that are to be reached are not within what the options of
    /// all units reach.
    pub(super) fn of(job: &Job, selection: &Selection, allocation: Allocation) -> Result<Self> {
        let chosen = |linear: &LinearInfo| selection.contains(&linear.name);
        let blocks = 0..job.decoder.blocks();
        let units: Vec<Unit> =
            blocks.flat_map(|i| Unit::of_block(i, job.decoder.linears(i).into_iter().filter(chosen))).collect();
        let mut made = Self { units, candidates: Vec::new(), options: Vec::new(), usual: Vec::new() };
        let mut numbers: BTreeMap<Setting, usize> = BTreeMap::new();
        for i in 0..made.units.len() {
            let settings = match allocation {
                Allocation::Bits { free_groups, .. } => made.units[i].grids(free_groups),
                Allocation::Sparsity(_) => measured_sparsities(mean_sparsity(&job.plan)),
            };
            let mut options = Vec::with_capacity(settings.len());
            for setting in settings {
                let number = match numbers.get(&setting) {
                    Some(&number) => number,
                    None => {
                        made.candidates.push(Candidate::new(&job.plan, setting)?);
                        numbers.insert(setting, made.candidates.len() - 1);
                        made.candidates.len() - 1
                    }
                };
                options.push(number);
            }
            made.options.push(options);
        }
        made.usual = match allocation {
            Allocation::Bits { target, .. } => made.usual_grids(job, target)?,
            Allocation::Sparsity(_) => {
                let mean = Setting::Sparsity(parts(mean_sparsity(&job.plan)));
                let at = |i: &usize| made.candidates[*i].setting == mean;
                let place = made.options.first().and_then(|options| options.iter().position(at));
                vec![place.unwrap_or(0); made.units.len()]
            }
        };
        Ok(made)
    }

    /// The sizes of each unit's options: bytes on disk where bits are chosen.
    fn sizes(&self, job: &Job) -> Result<Vec<Vec<u64>>> {
        let dtype = job.float_type();
        let mut known: BTreeMap<(usize, usize, usize), u64> = BTreeMap::new();
        let mut size = |number: usize, linear: &LinearInfo| -> Result<u64> {
            let key = (number, linear.rows, linear.cols);
            if let Some(&bytes) = known.get(&key) {
                return Ok(bytes);
            }
            let bytes = self.candidates[number].bytes([linear.rows, linear.cols], dtype)?;
            known.insert(key, bytes);
            Ok(bytes)
        };
        let mut sizes = Vec::with_capacity(self.units.len());
        for (unit, options) in self.units.iter().zip(&self.options) {
            let mut of_unit = Vec::with_capacity(options.len());
            for &number in options {
                let bytes: Result<Vec<u64>> = unit.linears.iter().map(|linear| size(number, linear)).collect();
                of_unit.push(bytes?.iter().sum());
            }
            sizes.push(of_unit);
        }
        Ok(sizes)
    }

    fn weights(&self) -> u64 {
        self.units.iter().map(Unit::weights).sum()
    }

    /// The largest option of each unit within `target` bits per weight, the first among equals. Errors as [`Units::of`].
    fn usual_grids(&self, job: &Job, target: f64) -> Result<Vec<usize>> {
        let sizes = self.sizes(job)?;
        let bits = |of: fn(&Vec<u64>) -> Option<u64>| {
            8.0 * sizes.iter().filter_map(of).sum::<u64>() as f64 / self.weights().max(1) as f64
        };
        let (least, most) = (bits(|s| s.iter().min().copied()), bits(|s| s.iter().max().copied()));
        // Rounded inwards, so that what the message names is accepted.
        let (least, most) = ((least * 100.0).ceil() / 100.0, (most * 100.0).floor() / 100.0);
        if !(least..=most).contains(&target) {
            return Err(Opt::TargetBits.wrong(target, format!("must be {least:.2} to {most:.2} for this model")));
        }
        let place = |(unit, sizes): (&Unit, &Vec<u64>)| {
            let within = |size: u64| 8.0 * size as f64 <= target * unit.weights() as f64;
            let fitting = sizes.iter().enumerate().filter(|(_, size)| within(**size));
            let smallest = sizes.iter().enumerate().min_by_key(|(_, size)| **size);
            fitting.rev().max_by_key(|(_, size)| **size).or(smallest).map_or(0, |(place, _)| place)
        };
        Ok(self.units.iter().zip(&sizes).map(place).collect())
    }
}

impl Candidate {
    fn new(plan: &Plan, setting: Setting) -> Result<Self> {
        let recipe = setting.applied(&plan.recipe);
        let kind = Kind::of(&Choice { recipe: &recipe, outlier_share: None, format: plan.format.as_deref() })?;
        Ok(Self { setting, recipe, kind })
    }

    /// Bytes on disk of a linear of this shape, in a model of such floats.
    fn bytes(&self, shape: [usize; 2], dtype: Dtype) -> Result<u64> {
        let dtype = self.kind.stored(dtype).dtype;
        let stored = stored::parts(&self.kind, &self.recipe, shape, dtype, 0.0)?;
        Ok(stored.iter().sum::<usize>() as u64)
    }
}

/// The error of a run without calibration data.
fn no_data() -> Error {
    Error::Plan("settings for each layer are chosen with calibration data; name a data set".into())
}

/// The share of all weights that a plan removes.
fn mean_sparsity(plan: &Plan) -> f64 {
    match plan.recipe.pattern {
        Some(Pattern::Unstructured(share)) => share,
        _ => 0.0,
    }
}

/// Errors when the plan asks for settings that measuring cannot find for this model.
pub(crate) fn check(job: &Job, selection: &Selection) -> Result<()> {
    job.plan.check_allocation()?;
    match job.plan.allocation {
        None => Ok(()),
        Some(_) if job.windows.is_none() => Err(no_data()),
        Some(allocation) => Units::of(job, selection, allocation).map(drop),
    }
}

/// Sweeps of whole matrices that trying all options takes about, and tokens that pass from each unit's block to the end;
/// `None` where only statistics are collected.
pub(crate) fn effort(job: &Job) -> Option<(f64, usize)> {
    let (allocation, windows) = (job.plan.allocation?, job.windows.as_ref()?);
    let linears: Vec<LinearInfo> = (0..job.decoder.blocks()).flat_map(|i| job.decoder.linears(i)).collect();
    let options = match allocation {
        Allocation::Sparsity(SparsityBy::Owl) => return None,
        Allocation::Sparsity(SparsityBy::Error) => measured_sparsities(mean_sparsity(&job.plan)).len(),
        Allocation::Bits { free_groups, .. } => {
            linears.first().map_or(0, |l| Unit::of_block(0, [l.clone()])[0].grids(free_groups).len())
        }
    };
    let weights: usize = linears.iter().map(|linear| linear.rows * linear.cols).sum();
    let tried: usize = linears.iter().map(|linear| linear.rows.min(measure::ROWS) * linear.cols).sum();
    let units: usize = (0..job.decoder.blocks()).map(|i| Unit::of_block(i, job.decoder.linears(i)).len()).sum();
    let sweeps = 1.0 + (options * tried) as f64 / weights.max(1) as f64;
    Some((sweeps, units * streams::tokens(units, windows.ids.len(), job.decoder.hidden_size())))
}

/// The windows that are looked at: as many as the widest linear needs.
pub(crate) fn windows(job: &Job) -> Option<Windows> {
    let windows = job.windows.as_ref()?;
    let linears = (0..job.decoder.blocks()).flat_map(|i| job.decoder.linears(i));
    let widest = linears.map(|linear| linear.cols).max().unwrap_or(1);
    let count = (TOKENS_PER_FEATURE * widest).div_ceil(windows.seqlen).clamp(1, windows.count());
    Some(Windows { ids: windows.ids[..count * windows.seqlen].to_vec(), ..*windows })
}

/// Gives each linear of a plan that asks for it its setting: the one in the journal, or one that is found now. Returns the
/// linears with their choices.
pub(super) fn set(
    job: &mut Job,
    selection: Selection,
    started: &mut Started,
    observer: &mut dyn Observer,
    clock: &mut Clock,
) -> Result<Selection> {
    let Some(allocation) = job.plan.allocation else { return Ok(selection) };
    let found = match started.allotted.take() {
        Some(found) => found,
        None => {
            let start = Instant::now();
            observer.measuring("each layer's share");
            let dir = started.output.dir().to_path_buf();
            let found = find(job, &dir, &selection, allocation, observer)?;
            clock.add(Stage::Allocate, start, 0.0);
            let line = Line::Allocation(found.clone());
            started.output.note(move |_| Some(line))?;
            found
        }
    };
    started.note(found.summary, observer);
    job.plan = job.plan.allotted(&found.settings);
    let selection = job.check()?;
    started.output.encode_as(&job.plan)?;
    if let Allocation::Bits { .. } = allocation {
        let concerns: Vec<Message> = warnings::concerns(&job.plan, &job.checkpoint, job.decoder.as_ref())?;
        concerns.iter().for_each(|note| started.note(spelled(note, observer), observer));
    }
    Ok(selection)
}

fn find(
    job: &Job,
    dir: &Path,
    selection: &Selection,
    allocation: Allocation,
    observer: &mut dyn Observer,
) -> Result<Found> {
    if allocation == Allocation::Sparsity(SparsityBy::Owl) {
        return owl::find(job, dir, selection, observer);
    }
    let units = Units::of(job, selection, allocation)?;
    let measured = measure::measure((job, dir), &units, observer)?;
    let (choices, budget) = match allocation {
        Allocation::Bits { target, .. } => {
            let budget = (target * units.weights() as f64 / 8.0).floor() as u64;
            (units.grid_choices(job, &measured)?, budget)
        }
        Allocation::Sparsity(_) => {
            let mean = mean_sparsity(&job.plan);
            let kept = u64::from(PARTS as u32 - parts(mean));
            (units.sparsity_choices(mean, &measured), kept * units.weights())
        }
    };
    let priced: Vec<Vec<Priced>> = choices.iter().map(|of| of.iter().map(|(_, priced)| *priced).collect()).collect();
    let places = solve(&priced, budget);
    let places = places.ok_or_else(|| Error::Plan("no settings are within the budget of all layers".into()))?;
    let chosen = || choices.iter().zip(&places).map(|(choices, &place)| choices[place]);
    let settings: Vec<Setting> = chosen().map(|(setting, _)| setting).collect();
    let loss = [chosen().map(|(_, priced)| priced.loss).sum(), measured.effects.iter().sum()];
    let size: u64 = chosen().map(|(_, priced)| priced.size).sum();
    let settings = allotted(&units.units, &settings);
    let reached = match allocation {
        Allocation::Bits { target, .. } => {
            format!("{:.3} of {target} bits per weight", 8.0 * size as f64 / units.weights() as f64)
        }
        Allocation::Sparsity(_) => {
            format!("{:.2} % of the weights go", 100.0 - 100.0 * size as f64 / units.weights() as f64 / PARTS)
        }
    };
    Ok(Found { summary: summary(&reached, &settings, &units.units, Some(loss)), settings })
}

impl Units {
    fn grid_choices(&self, job: &Job, measured: &Measured) -> Result<Vec<Vec<(Setting, Priced)>>> {
        let sizes = self.sizes(job)?;
        let of = |(unit, sizes): (usize, &Vec<u64>)| {
            let losses = measured.losses(unit, self.usual[unit]);
            let settings = self.options[unit].iter().map(|&number| self.candidates[number].setting);
            settings.zip(sizes.iter().zip(losses)).map(|(s, (&size, loss))| (s, Priced { size, loss })).collect()
        };
        Ok(sizes.iter().enumerate().map(of).collect())
    }

    fn sparsity_choices(&self, mean: f64, measured: &Measured) -> Vec<Vec<(Setting, Priced)>> {
        let of = |(number, unit): (usize, &Unit)| {
            let settings = self.options[number].iter().map(|&candidate| self.candidates[candidate].setting);
            let known: Vec<(Setting, f64)> = settings.zip(measured.losses(number, self.usual[number])).collect();
            sparsity_options(mean, unit.weights(), &known)
        };
        self.units.iter().enumerate().map(of).collect()
    }
}

/// Settings in a summary before the others are only counted.
const NAMED: usize = 8;

/// A setting in words; sparsities in steps of five percent, for there are many.
fn in_short(setting: Setting) -> String {
    match setting {
        Setting::Grid { .. } => setting.to_string(),
        Setting::Sparsity(parts) => {
            let first = parts / 500 * 5;
            format!("{first} to {} %", first + 5)
        }
    }
}

/// A summary of the choices in a line: for how many linears which setting, and the predicted loss of it and of equal settings.
fn summary(reached: &str, settings: &[Allotted], units: &[Unit], loss: Option<[f64; 2]>) -> String {
    let weights: BTreeMap<&str, u64> = units
        .iter()
        .flat_map(|unit| &unit.linears)
        .map(|linear| (linear.name.as_str(), (linear.rows * linear.cols) as u64))
        .collect();
    let total = weights.values().sum::<u64>().max(1) as f64;
    let share = |linears: &[String]| {
        let sum: u64 = linears.iter().filter_map(|name| weights.get(name.as_str())).sum();
        100.0 * sum as f64 / total
    };
    let mut named: Vec<(String, usize, f64)> = Vec::new();
    for Allotted { setting, linears } in settings {
        let (words, count, share) = (in_short(*setting), linears.len(), share(linears));
        match named.iter_mut().find(|(other, ..)| *other == words) {
            Some((_, counts, shares)) => (*counts, *shares) = (*counts + count, *shares + share),
            None => named.push((words, count, share)),
        }
    }
    let rest = named.split_off(named.len().min(NAMED));
    let mut named: Vec<String> = named
        .iter()
        .map(|(words, count, share)| format!("{words}: {} ({share:.0} %)", plural(*count, "layer")))
        .collect();
    if !rest.is_empty() {
        let layers: usize = rest.iter().map(|(_, count, _)| count).sum();
        named.push(format!("{}: {}", plural(rest.len(), "more setting"), plural(layers, "layer")));
    }
    let gain = loss.map_or(String::new(), |[chosen, alike]| {
        format!("; predicted divergence {chosen:.4}, {alike:.4} if all were alike")
    });
    format!("chosen by measuring: {reached}; {}{gain}", named.join(", "))
}
