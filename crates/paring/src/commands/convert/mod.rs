//! The same numbers in another layout: codes are stored anew, and nothing is rounded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use paring_format::layouts::{self, Layout};
use paring_format::near;
use paring_format::writer::NamedTensor;
use paring_format::{Checkpoint, Compressed, LayoutParts, QuantConfig, QuantMethod, Scheme, Values};
use paring_model::families;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use crate::commands::decompress::{Decompressed, decompress};
use crate::output::digests::Made;
use crate::output::modules::group_of;
use crate::output::modules::{compressed_modules, is_of_activations};
use crate::output::rewrite::{Rewrite, Stored, as_they_are, destination, items};
use crate::output::side_files::{left_behind, unquantized};
use crate::output::tied;
use crate::plan::{Opt, named_layout};
use crate::report::progress::Observer;
use crate::{Error, Result};

/// Results of a conversion.
#[derive(Clone, Debug, Serialize)]
pub struct Converted {
    /// The output folder.
    pub out: String,
    /// The layout of the converted matrices.
    pub format: String,
    /// Matrices that were stored anew.
    pub converted: usize,
    /// Bytes of the tensors of the input.
    pub bytes_in: u64,
    /// Bytes of the tensors of the output.
    pub bytes_out: u64,
    /// Notes for the output's users, a sentence each.
    pub notes: Vec<String>,
}

/// Choice of layout and groups.
#[derive(Clone, Copy, Debug)]
pub struct Conversion<'a> {
    /// The name of a layout.
    pub format: &'a str,
    /// Names of the groups of the `quantization_config` whose linears are converted; none for all of them.
    pub groups: &'a [String],
}

/// Writes the checkpoint with its matrices in another layout that holds the same numbers exactly. Everything else is
/// copied, including scales of activations; the config names the new layout, group by group. The output is reopened and
/// compared with the input, and the digests stay beside it for [`crate::commands::verify`]. `observer` gets an event per
/// shard.
///
/// Reads every matrix twice: all are stored anew and read back in memory before the first is written, so that a layout
/// that cannot hold one is an error that names it, and leaves no output. A few matrices and two shards of 128 MiB are
/// in memory.
///
/// # Errors
/// An unknown layout or group; a matrix that the layout cannot hold as it is; groups that no one configuration can
/// name together; a matrix that cannot be read; an output that cannot be written.
pub fn convert(
    checkpoint: &Arc<Checkpoint>,
    how: Conversion,
    out: &Path,
    companions: Vec<(String, Vec<u8>)>,
    overwrite: bool,
    observer: &mut dyn Observer,
) -> Result<Converted> {
    if how.format == layouts::DENSE.name() && how.groups.is_empty() {
        let Decompressed { out, decoded: converted, bytes_in, bytes_out, notes, .. } =
            decompress(checkpoint, out, companions, overwrite, observer)?;
        return Ok(Converted { out, format: how.format.to_string(), converted, bytes_in, bytes_out, notes });
    }
    destination(checkpoint, (out, 0), &companions, overwrite)?;
    let plan = ConversionPlan::new(checkpoint, how)?;
    let wrong = plan.matrices.par_iter().map(|(module, matrix)| plan.check(module, matrix)).find_first(Result::is_err);
    wrong.unwrap_or(Ok(()))?;
    let modules: BTreeSet<String> = plan.matrices.keys().cloned().collect();
    let dense: Vec<&str> = plan.now_dense();
    let keeps = |name: &str| {
        let beside = name.rsplit_once('.').map_or("", |(module, _)| module);
        !(is_of_activations(checkpoint, name) && dense.contains(&beside))
    };
    let all = items(checkpoint, &modules, keeps);
    plan.check_floats(how.format)?;
    let loses_head = tied::loses_head(checkpoint)?;
    let rewrite = Rewrite::new(checkpoint, out, &all, companions, overwrite, observer, |module| {
        let matrix =
            plan.matrices.get(module).ok_or_else(|| Error::Plan(format!("{module} is not to be converted")))?;
        let c = plan.read(module, matrix)?;
        let made = Made { digest: c.digest(), shape: Some((c.rows, c.cols)) };
        let tensors = match plan.groups[matrix.group].anew {
            true => NamedTensor::of_module(module, plan.encode(module, matrix, &c)?),
            false => as_they_are(checkpoint, module)?,
        };
        Ok(Stored { tensors, made })
    })?;
    let mut config = plan.config(&rewrite.lengths);
    let mut notes = checkpoint.notes().to_vec();
    if let Some(object) = config.as_object_mut().filter(|_| loses_head) {
        tied::untie(object);
        notes.push(tied::NOTE.to_string());
    }
    let bytes_out =
        rewrite.finish(&config, ("converted", json!({"format": how.format, "groups": how.groups})), observer)?;
    Ok(Converted {
        out: out.display().to_string(),
        format: how.format.to_string(),
        converted: plan.converted(),
        bytes_in: checkpoint.total_bytes(),
        bytes_out,
        notes: left_behind(checkpoint)?.into_iter().chain(notes).collect(),
    })
}

/// A matrix to convert.
struct PlannedMatrix {
    /// Number of its group in [`ConversionPlan::groups`].
    group: usize,
    /// Rows and columns, if only the model knows them.
    shape: Option<(usize, usize)>,
}

/// A group of the output.
struct PlannedGroup {
    name: String,
    scheme: Scheme,
    layout: &'static dyn Layout,
    /// True if its matrices are converted.
    anew: bool,
}

/// Treatment of each matrix.
struct ConversionPlan<'a> {
    checkpoint: &'a Checkpoint,
    layout: &'static dyn Layout,
    quant: QuantConfig,
    /// Groups of the output, in the order of the input.
    groups: Vec<PlannedGroup>,
    matrices: BTreeMap<String, PlannedMatrix>,
}

impl<'a> ConversionPlan<'a> {
    fn new(checkpoint: &'a Arc<Checkpoint>, how: Conversion) -> Result<Self> {
        let layout = named_layout(how.format)?;
        let quant = checkpoint.quant_config()?;
        let mut modules = compressed_modules(checkpoint);
        let shapes = linears(checkpoint, layout, &modules)?;
        if modules.is_empty() || stores_dense_anew(layout) {
            modules.extend(shapes.keys().cloned());
        }
        let quant = match quant {
            Some(quant) if !quant.groups.is_empty() => quant,
            // The linears of a dense model are one group, stored sparse or not.
            other => {
                let kv_cache = other.and_then(|quant| quant.kv_cache);
                let ignore = families::open(checkpoint.clone(), crate::Precision::F32)?.outer_linears();
                QuantConfig { kv_cache, ..QuantConfig::new(vec![("group_0".into(), Scheme::dense())], ignore) }
            }
        };
        if let Some(unknown) = how.groups.iter().find(|name| quant.groups.iter().all(|(group, _)| group != *name)) {
            let names = quant.groups.iter().map(|(name, _)| name.as_str());
            return Err(Opt::Group.wrong(unknown, "no such group").hint(near::suggestion(unknown, names)));
        }
        let chosen = |name: &String| how.groups.is_empty() || how.groups.contains(name);
        let mut groups = Vec::new();
        for (name, scheme) in &quant.groups {
            if scheme.format == layouts::DENSE.name() && scheme.weights.is_some() && !chosen(name) {
                return Err(Error::Plan(format!(
                    "{name} was never compressed (status frozen), and a config has one status for all groups; \
                    convert all of them"
                )));
            }
            let layout = if chosen(name) { Some(layout) } else { layouts::layout(&scheme.format) };
            let unknown =
                || Error::Plan(format!("{name}: unknown format {}; check quantization_config", scheme.format));
            let layout = layout.ok_or_else(unknown)?;
            let (name, format) = (name.clone(), layout.name().to_string());
            // The version of the config, which is not kept, marks words with padding.
            let anew = chosen(&name) || scheme.padded;
            groups.push(PlannedGroup {
                name,
                layout,
                anew,
                scheme: Scheme { format, padded: false, ..scheme.clone() },
            });
        }
        let mut plan = Self { checkpoint, layout, quant, groups, matrices: BTreeMap::new() };
        let mut firsts: Vec<Option<Scheme>> = vec![None; plan.groups.len()];
        for module in modules {
            let Some(group) = group_of(Some(&plan.quant), &module)? else { continue };
            let matrix = PlannedMatrix { group, shape: shapes.get(&module).copied() };
            if firsts[group].is_none() && chosen(&plan.groups[group].name) {
                let c = plan.read(&module, &matrix)?;
                firsts[group] = Some(plan.scheme(&plan.quant.groups[group].1, &c));
            }
            plan.matrices.insert(module, matrix);
        }
        for (group, scheme) in plan.groups.iter_mut().zip(firsts) {
            if let Some(scheme) = scheme {
                group.scheme = scheme;
            }
        }
        if plan.converted() == 0 {
            let from = checkpoint.describe();
            return Err(Error::Plan(format!(
                "{from}: it has no matrix that can become {}; see `paring inspect`",
                how.format
            )));
        }
        // A config has one method, and only its own layouts.
        let differs = |group: &&PlannedGroup| !group.layout.is_dense() && group.layout.method() != layout.method();
        match plan.groups.iter().find(differs).filter(|_| !layout.is_dense()) {
            None => Ok(plan),
            Some(group) => Err(Error::Plan(format!(
                "{} would stay {}, and no config can name that together with {}; convert all groups",
                group.name,
                group.layout.name(),
                layout.name()
            ))),
        }
    }

    /// The scheme of matrices like `c`, which have this one, in the new layout.
    fn scheme(&self, from: &Scheme, c: &Compressed) -> Scheme {
        let format = self.layout.name();
        let method = layouts::layout(&from.format).map(|layout| layout.method());
        if self.layout.is_dense() {
            Scheme { targets: from.targets.clone(), ..Scheme::dense() }
        } else if method == Some(self.layout.method()) {
            Scheme { format: format.to_string(), padded: false, ..from.clone() }
        } else if self.layout.method() == QuantMethod::Spqr {
            Scheme::spqr(from.targets.clone())
        } else {
            Scheme {
                input: from.input.clone(),
                output: from.output.clone(),
                ..Scheme::of(c, format, from.targets.clone())
            }
        }
    }

    fn read(&self, module: &str, matrix: &PlannedMatrix) -> Result<Compressed> {
        Ok(match matrix.shape {
            Some((rows, cols)) => self.checkpoint.read_linear(module, rows, cols)?,
            None => self.checkpoint.read_module(module)?,
        })
    }

    fn encode(&self, module: &str, matrix: &PlannedMatrix, c: &Compressed) -> Result<LayoutParts> {
        let PlannedGroup { scheme, layout, .. } = &self.groups[matrix.group];
        let refused = |why: paring_format::Error| {
            // The module is named already.
            let why = why.to_string();
            let why = why.strip_prefix("the matrix: ").unwrap_or(&why);
            Error::Plan(format!("{module}: cannot become {}: {why}", scheme.format))
        };
        if layout.is_dense() {
            let c = Compressed { values: Values::Dense(c.to_dense()), ..*c };
            return layout.encode(scheme, &c).map_err(refused);
        }
        layout.check_shape(c.rows, c.cols).map_err(refused)?;
        layout.encode(scheme, c).map_err(refused)
    }

    /// Matrices that are converted.
    fn converted(&self) -> usize {
        self.matrices.values().filter(|matrix| self.groups[matrix.group].anew).count()
    }

    /// Errors unless the matrix means the same when it is converted, if it is to be.
    fn check(&self, module: &str, matrix: &PlannedMatrix) -> Result<()> {
        let PlannedGroup { scheme, layout, anew, .. } = &self.groups[matrix.group];
        if !anew {
            return Ok(());
        }
        let c = self.read(module, matrix)?;
        let parts = self.encode(module, matrix, &c)?;
        let back = layout.decode_shaped(scheme, parts, (c.rows, c.cols)).map_err(|e| e.in_module(module, "memory"))?;
        if back.digest() == c.digest() {
            return Ok(());
        }
        Err(Error::Plan(format!(
            "{module}: cannot become {} without a change of its values; choose another format",
            scheme.format
        )))
    }

    /// Errors when the layout wants one float type for the whole model and a tensor that is copied has another.
    fn check_floats(&self, format: &str) -> Result<()> {
        let Some(wanted) = self.layout.float_type() else { return Ok(()) };
        for name in self.checkpoint.names() {
            let module = name.rsplit_once('.').map_or("", |(module, _)| module);
            let Some(info) = self.checkpoint.info(name).filter(|_| !self.matrices.contains_key(module)) else {
                continue;
            };
            if info.dtype.is_float() && info.dtype != wanted {
                return Err(Error::Plan(format!(
                    "{name}: {} in a model that is to become {format}, where all floats are {wanted}; choose \
                    another format",
                    info.dtype
                )));
            }
        }
        Ok(())
    }

    /// Modules whose matrices become dense.
    fn now_dense(&self) -> Vec<&str> {
        let dense = |matrix: &PlannedMatrix| self.groups[matrix.group].layout.is_dense();
        self.matrices.iter().filter(|(_, matrix)| dense(matrix)).map(|(module, _)| module.as_str()).collect()
    }

    /// The config of the output, whose matrices have one-dimensional tensors of these lengths.
    fn config(&self, lengths: &[(String, usize)]) -> Value {
        let groups: Vec<(String, Scheme)> =
            self.groups.iter().map(|group| (group.name.clone(), group.scheme.clone())).collect();
        let ignore = self.quant.ignore.clone();
        let mut config = self.checkpoint.config().clone();
        if let Some(object) = config.as_object_mut() {
            unquantized(object);
            if groups.iter().all(|(_, scheme)| scheme.format == layouts::DENSE.name()) && self.quant.kv_cache.is_none()
            {
                return config;
            }
            let quant = match self.layout.method() {
                QuantMethod::Spqr => QuantConfig::spqr(lengths.iter().map(|(name, n)| (name.as_str(), *n)), ignore),
                _ => QuantConfig { kv_cache: self.quant.kv_cache.clone(), ..QuantConfig::new(groups, ignore) },
            };
            object.insert("quantization_config".into(), quant.to_json());
        }
        config
    }
}

/// Tells whether a layout stores plain matrices in a way of its own.
fn stores_dense_anew(layout: &dyn Layout) -> bool {
    layout.holds().dense && !layout.is_dense()
}

/// Shapes of the linears of the model's blocks, when they are needed: to find the dense ones, and if their layout
/// does not store them.
fn linears(
    checkpoint: &Arc<Checkpoint>,
    layout: &dyn Layout,
    modules: &BTreeSet<String>,
) -> Result<BTreeMap<String, (usize, usize)>> {
    let stored = |module: &String| checkpoint.linear_shape(module).map(|shape| shape.is_some());
    let mut unknown = modules.is_empty() || stores_dense_anew(layout);
    for module in modules {
        unknown = unknown || !stored(module)?;
    }
    if !unknown {
        return Ok(BTreeMap::new());
    }
    let decoder = families::open(checkpoint.clone(), crate::Precision::F32)?;
    let linears = (0..decoder.blocks()).flat_map(|i| decoder.linears(i));
    Ok(linears.map(|linear| (linear.name, (linear.rows, linear.cols))).collect())
}

#[cfg(test)]
mod tests;
