//! The verdict of each loader on a plan's output.

use paring_format::Checkpoint;
use paring_model::{Decoder, LinearInfo};

use super::schemes;
use super::select::Selection;
use crate::Result;
use crate::output::side_files::named_dtype;
use crate::plan::Plan;
use crate::plan::compatibility::{Linears, Loader, Verdict, verdict};

/// The verdicts of transformers and vLLM on the linears that they like least. Those that stay as they are run everywhere.
///
/// # Errors
/// As a run: choices that do not fit each other or the model.
pub fn loaders(plan: &Plan, checkpoint: &Checkpoint, decoder: &dyn Decoder) -> Result<[(Loader, Verdict); 2]> {
    let selection = Selection::new(plan, decoder)?;
    let kinds = schemes::kinds(plan)?;
    let config = checkpoint.config();
    let (dtype, model_type) = (named_dtype(config), config.get("model_type").and_then(|name| name.as_str()));
    let linears: Vec<LinearInfo> = (0..decoder.blocks()).flat_map(|i| decoder.linears(i)).collect();
    let worst = |loader: Loader| {
        let verdicts = selection.used().into_iter().filter_map(|number| {
            let scheme = kinds.get(number)?.as_ref()?.scheme.as_ref()?;
            let of_choice = linears.iter().filter(|linear| selection.choice(&linear.name) == Some(number));
            let shapes: Vec<(usize, usize)> = of_choice.map(|linear| (linear.rows, linear.cols)).collect();
            Some(verdict(loader, scheme, &Linears { dtype, model_type, shapes: &shapes }))
        });
        let rank = |verdict: &Verdict| match verdict {
            Verdict::Runs(_) => 0,
            Verdict::Limited(_) => 1,
            Verdict::Refused(_) => 2,
        };
        verdicts.max_by_key(rank).unwrap_or_else(|| Verdict::Runs("as plain weights".into()))
    };
    Ok(Loader::ALL.map(|loader| (loader, worst(loader))))
}
