//! Cases of the published implementations: small layers with what those programs made of them, in a folder with
//! `index.json`. Tests hold the methods to them, and [`crate::bench`] holds a GPU to the CPU.

use std::path::PathBuf;

use paring_format::Checkpoint;
use serde_json::Value;

use super::{Outcome, Stored};
use crate::pipeline::stats::Stats;
use crate::plan::{ActOrder, Curvature, METHODS, Pattern, Permutation, Recipe, Rounding, Search, Spqr};
use crate::{Error, Result};

/// A folder of cases.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// One case: a layer and a recipe.
#[derive(Clone, Debug)]
pub struct Case {
    /// The layer and the case's own name.
    pub name: String,
    /// Its entry in the index, which also says what to expect.
    pub entry: Value,
    /// Its recipe.
    pub recipe: Recipe,
    /// The file of the layer.
    inputs: PathBuf,
}

/// A layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Row-major `[rows, cols]`.
    pub weight: Vec<f32>,
    /// The Gram matrix, row-major `[cols, cols]`.
    pub gram: Vec<f32>,
    /// (1/n) Σ x² over all tokens, `[cols]`, for the cases that need it; otherwise empty.
    pub norms: Vec<f32>,
}

impl Folder {
    /// The cases in the folder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// All cases but those of Wanda's bisection variant, an ablation of its paper and not a method offered here.
    ///
    /// Errors when there is no index, or an entry is not understood.
    pub fn cases(&self) -> Result<Vec<Case>> {
        let path = self.file("index.json");
        let bytes = std::fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        let wrong = |reason: String| Error::content(path.display().to_string(), reason);
        let index: Vec<Value> = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        let offered = |entry: &Value| entry["settings"].get("variant").is_none();
        let case = |entry: Value| {
            let text = |key: &str| {
                entry[key].as_str().map(str::to_string).ok_or_else(|| wrong(format!("an entry without {key}: {entry}")))
            };
            let (problem, id) = (text("problem")?, text("id")?);
            let name = format!("{problem} {id}");
            let recipe = recipe(&entry["settings"]).map_err(|reason| wrong(format!("{name}: {reason}")))?;
            Ok(Case { inputs: self.file(&format!("{problem}.inputs.safetensors")), name, entry, recipe })
        };
        index.into_iter().filter(offered).map(case).collect()
    }
}

impl Case {
    /// Reads its layer. Errors when the file is not there or holds something else.
    pub fn layer(&self) -> Result<Layer> {
        let file = Checkpoint::open_file(&self.inputs)?;
        let shape = file.info("weight").map(|info| info.shape.clone()).unwrap_or_default();
        let &[rows, cols] = shape.as_slice() else {
            let reason = format!("weight has shape {shape:?}, expected [R, C]");
            return Err(Error::content(self.inputs.display().to_string(), reason));
        };
        let norms = match self.recipe.method.curvature {
            Curvature::Diagonal => file.read_f32("scaler_row", &[cols])?,
            Curvature::Flat | Curvature::Full => Vec::new(),
        };
        let (weight, gram) = (file.read_f32("weight", &shape)?, file.read_f32("hessian", &[cols, cols])?);
        Ok(Layer { rows, cols, weight, gram, norms })
    }

    /// The outcome of the recipe on its layer, where the Gram matrix lies once `place` has moved it.
    pub fn compress(&self, layer: &Layer, place: impl FnOnce(&[f32]) -> Result<Stats>) -> Result<Outcome> {
        let stats = match self.recipe.method.curvature {
            Curvature::Flat => None,
            Curvature::Diagonal => Some(Stats::Norms(layer.norms.clone())),
            Curvature::Full => Some(place(&layer.gram)?),
        };
        let prepared = self.recipe.prepare(stats.as_ref(), Some(&layer.weight), &self.name)?;
        self.recipe.compress(&layer.weight, layer.cols, &prepared, Stored::plain(paring_format::Dtype::F32), &self.name)
    }
}

/// The recipe of a case's settings.
pub(crate) fn recipe(settings: &Value) -> Result<Recipe, String> {
    let number = |key: &str| settings.get(key).and_then(Value::as_f64);
    let count = |key: &str| number(key).map(|v| v as usize);
    let flag = |key: &str| settings.get(key).and_then(Value::as_bool).unwrap_or(false);
    let pattern = match (count("prunen"), count("prunem"), number("sparsity")) {
        (Some(n), Some(of), _) if n <= of => Some(Pattern::NofM { keep: of - n, of }),
        (Some(n), of, _) => return Err(format!("{n} of {of:?} weights")),
        (None, _, share) => share.map(Pattern::Unstructured),
    };
    let rounding = number("bits").map(|bits| Rounding {
        symmetric: flag("sym"),
        search: if flag("mse") { Search::Mse } else { Search::MinMax },
        static_groups: flag("static_groups"),
        act_order: match (flag("actorder"), flag("static_groups")) {
            (false, _) => ActOrder::None,
            (true, true) => ActOrder::Static,
            (true, false) => ActOrder::Group,
        },
        ..Rounding::int(bits as u32, number("groupsize").filter(|&g| g > 0.0).map(|g| g as usize))
    });
    let known = METHODS.iter().copied().find(|method| settings["algo"] == method.name);
    let method = known.ok_or_else(|| format!("{settings}: no method"))?;
    Ok(Recipe {
        pattern,
        rounding,
        spqr: if method.spqr { Some(spqr(settings)?) } else { None },
        percdamp: number("percdamp").unwrap_or(0.01),
        blocksize: count("blocksize").unwrap_or(128),
        ..Recipe::new(method)
    })
}

/// SpQR's settings of a case.
fn spqr(settings: &Value) -> Result<Spqr, String> {
    let number = |key: &str| settings.get(key).and_then(Value::as_f64);
    let flag = |key: &str, default: bool| settings.get(key).and_then(Value::as_bool).unwrap_or(default);
    let permutation = match settings.get("permutation_order") {
        None => Permutation::Identity,
        Some(Value::Array(order)) => {
            let column = |v: &Value| v.as_u64().and_then(|v| u32::try_from(v).ok());
            Permutation::Given(order.iter().map(column).collect::<Option<_>>().ok_or("an order of no columns")?)
        }
        Some(name) => match name.as_str() {
            Some("identity") => Permutation::Identity,
            Some("act_order") => Permutation::ActOrder,
            Some("spearman") => Permutation::Spearman,
            _ => return Err(format!("the order {name}")),
        },
    };
    Ok(Spqr {
        scale_bits: number("qq_scale_bits").map(|v| v as u32),
        zero_bits: number("qq_zero_bits").map(|v| v as u32),
        second_rows: number("qq_groupsize").unwrap_or(16.0) as usize,
        zero_symmetric: flag("qq_zero_sym", false),
        outlier_threshold: number("outlier_threshold"),
        permutation,
        simplified_outliers: flag("simplified_outliers", false),
        round_zero: flag("round_zero", false),
        per_channel: flag("perchannel", true),
        keep_last_columns: number("keep_last_columns").unwrap_or(0.0) as usize,
    })
}

/// The cases that come with the source.
#[cfg(test)]
pub(crate) fn own() -> Folder {
    Folder::new(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/algorithms"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_no_folder_of_cases_is_an_error_that_names_the_file() {
        let error = Folder::new("nowhere").cases().unwrap_err().to_string();
        assert!(error.starts_with("nowhere/index.json: "), "{error}");
        let folder = tempfile::tempdir().unwrap();
        for (index, want) in [
            ("{}", "invalid type"),
            (r#"[{"id": "a"}]"#, "an entry without problem"),
            (r#"[{"problem": "p", "id": "a", "settings": {"algo": "none"}}]"#, "p a: {\"algo\":\"none\"}: no method"),
        ] {
            std::fs::write(folder.path().join("index.json"), index).unwrap();
            let error = Folder::new(folder.path()).cases().unwrap_err().to_string();
            assert!(error.contains("index.json: ") && error.contains(want), "{error}");
        }
        let entry = r#"[{"problem": "p", "id": "a", "settings": {"algo": "rtn", "bits": 4}}]"#;
        std::fs::write(folder.path().join("index.json"), entry).unwrap();
        let error = Folder::new(folder.path()).cases().unwrap()[0].layer().unwrap_err().to_string();
        assert!(error.contains("p.inputs.safetensors"), "{error}");
    }

    #[test]
    fn settings_that_make_no_sense_are_errors() {
        assert!(recipe(&json!({"algo": "sparsegpt", "prunen": 3, "prunem": 2})).is_err());
        for order in [json!("sideways"), json!([1, -1]), json!(3)] {
            assert!(recipe(&json!({"algo": "spqr", "bits": 3, "permutation_order": order})).is_err(), "{order}");
        }
    }
}
