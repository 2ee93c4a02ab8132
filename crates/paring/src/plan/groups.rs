//! Sizes of groups that fit the widths of a model.

use paring_format::message;
use paring_format::message::Message;
use paring_format::{QuantArgs, Scheme};

use super::compatibility::{Linears, Loader, Verdict, usual_layout, verdict};
use super::{Grouping, Opt, Recipe, Rounding};
use crate::Result;

/// Sizes of groups that loaders have kernels for, the usual one first.
const SERVED: [usize; 3] = [128, 64, 32];

/// The fewest columns of a group that is still worth its scale.
const SMALLEST: usize = 8;

/// The origin of the size of groups, which decides whether it gives way to the widths of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizedBy {
    /// A request for this size: it stays.
    Request,
    /// This scheme, which was asked for: a smaller size takes its place where it does not fit.
    Scheme(&'static str),
    /// This scheme, of a run that asks for no grids, likewise.
    Usual(&'static str),
}

impl SizedBy {
    /// The scheme that it comes from.
    pub fn scheme(self) -> Option<&'static str> {
        match self {
            SizedBy::Scheme(name) | SizedBy::Usual(name) => Some(name),
            SizedBy::Request => None,
        }
    }
}

impl Recipe {
    /// The rounding in groups whose size is free to choose and must divide the columns of a matrix. SpQR takes a short last
    /// group, and those of floats are part of their format.
    fn groups(&self) -> Option<Rounding> {
        self.rounding.filter(|rounding| self.spqr.is_none() && rounding.element.int_bits().is_some())
    }

    /// The size of groups that these linears, given with their columns, should have instead of the recipe's, and why; `None`
    /// where that stays.
    pub(crate) fn fitting(&self, linears: &[(&str, usize)]) -> Option<(usize, String)> {
        let rounding = self.groups().filter(|rounding| rounding.sized_by != SizedBy::Request)?;
        let was = rounding.group_size()?;
        let (cols, place) = misfit(was, linears)?;
        let size = SERVED.into_iter().filter(|served| *served < was).find(|size| misfit(*size, linears).is_none())?;
        Some((size, format!("{was} does not divide {cols} ({place})")))
    }

    /// Errors unless groups of the recipe's size divide all of these linears, given with their columns.
    pub(crate) fn check_groups(&self, linears: &[(&str, usize)]) -> Result<()> {
        let Some((rounding, size)) = self.groups().and_then(|rounding| Some((rounding, rounding.group_size()?))) else {
            return Ok(());
        };
        let Some((cols, place)) = misfit(size, linears) else { return Ok(()) };
        let problem = match rounding.sized_by.scheme() {
            Some(name) => {
                message![format!(
                    "{name} uses groups of {size} columns, and {size} does not divide {cols} ({place}). Add "
                )]
            }
            None => message![Opt::GroupSize.with(size), format!(" does not divide {cols} columns ({place}). Use ")],
        };
        Err(Opt::GroupSize.misfit(problem.then(self.better(&rounding, linears)).then(".")))
    }

    /// The size to choose instead, and who runs it.
    fn better(&self, rounding: &Rounding, linears: &[(&str, usize)]) -> Message {
        let sized = |grouping| Rounding { grouping, ..*rounding };
        if let Some(size) = SERVED.into_iter().find(|size| misfit(*size, linears).is_none()) {
            let runs = self.runs(&sized(Grouping::Columns(size)));
            let runs = if runs.is_empty() { runs } else { format!(": {runs} that too") };
            return message![Opt::GroupSize.with(size), runs];
        }
        let twos = linears.iter().map(|(_, cols)| cols.trailing_zeros()).min().map_or(1, |twos| 1usize << twos.min(7));
        let rows = message![Opt::GroupSize.with(-1)];
        let small = if twos >= SMALLEST { message![Opt::GroupSize.with(twos), ", or "] } else { message![] };
        let runs = self.runs(&sized(Grouping::Row));
        let runs = if runs.is_empty() { runs } else { format!(": {runs} that") };
        small.then(rows).then(format!(" for one scale per row{runs}"))
    }

    /// The loaders that run linears of this rounding everywhere, with their verb; empty if none does.
    fn runs(&self, rounding: &Rounding) -> String {
        let (weights, input): (QuantArgs, _) = (rounding.args(), self.input.clone());
        let format = usual_layout(&weights, input.as_ref()).name().to_string();
        let scheme = Scheme { format, weights: Some(weights), input, ..Scheme::dense() };
        let run = |loader| matches!(verdict(loader, &scheme, &Linears::ANY), Verdict::Runs(_));
        match (run(Loader::Vllm), run(Loader::Transformers)) {
            (true, true) => "vLLM and transformers run",
            (true, false) => "vLLM runs",
            (false, true) => "transformers runs",
            (false, false) => "",
        }
        .into()
    }
}

/// The first columns that groups of `size` do not divide, and which linears have such columns, if some have.
fn misfit(size: usize, linears: &[(&str, usize)]) -> Option<(usize, String)> {
    let mut unfit = linears.iter().filter(|(_, cols)| !cols.is_multiple_of(size));
    let (first, cols) = unfit.next()?;
    let more = match unfit.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some((*cols, format!("{first}{more}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::method::GPTQ;

    fn recipe(grouping: Grouping, sized_by: SizedBy) -> Recipe {
        let rounding = Rounding { grouping, sized_by, symmetric: true, ..Rounding::int(4, None) };
        Recipe { rounding: Some(rounding), ..Recipe::new(&GPTQ) }
    }

    #[test]
    fn sizes_that_nobody_asked_for_give_way() {
        let columns = Grouping::Columns(128);
        for (grouping, sized_by, cols, expected) in [
            (columns, SizedBy::Scheme("W4A16"), &[128, 384][..], None),
            (columns, SizedBy::Scheme("W4A16"), &[576, 1536], Some(64)),
            (columns, SizedBy::Usual("W4A16"), &[1536, 96], Some(32)),
            (columns, SizedBy::Usual("W4A16"), &[32, 48], None),
            (columns, SizedBy::Request, &[576], None),
            (Grouping::Row, SizedBy::Request, &[576, 1536], None),
            (Grouping::Row, SizedBy::Request, &[128], None),
        ] {
            let linears: Vec<(&str, usize)> = cols.iter().map(|cols| ("a", *cols)).collect();
            let size = recipe(grouping, sized_by).fitting(&linears).map(|(size, _)| size);
            assert_eq!(size, expected, "{sized_by:?} {cols:?}");
        }
        let mut eight = recipe(Grouping::Row, SizedBy::Request);
        eight.rounding =
            eight.rounding.map(|rounding| Rounding { element: paring_format::Element::Int(8), ..rounding });
        assert_eq!(eight.fitting(&[("a", 128)]), None);
    }

    #[test]
    fn errors_name_a_size_that_fits() {
        let refused = |grouping, sized_by, linears: &[(&str, usize)]| {
            let error = recipe(grouping, sized_by).check_groups(linears).unwrap_err();
            error.message().spelled(|name| format!("--{name}"))
        };
        let linears = [("a", 1536), ("b", 576), ("c", 576), ("d", 192)];
        assert_eq!(
            refused(Grouping::Columns(128), SizedBy::Scheme("W4A16"), &linears),
            "W4A16 uses groups of 128 columns, and 128 does not divide 576 (b and 2 more). Add --groupsize 64: vLLM and \
            transformers run that too."
        );
        assert_eq!(
            refused(Grouping::Columns(96), SizedBy::Request, &[("a", 128)]),
            "--groupsize 96 does not divide 128 columns (a). Use --groupsize 128: vLLM and transformers run that too."
        );
        assert_eq!(
            refused(Grouping::Columns(32), SizedBy::Request, &[("a", 48), ("b", 32)]),
            "--groupsize 32 does not divide 48 columns (a). Use --groupsize 16, or --groupsize -1 for one scale per row: \
            vLLM and transformers run that."
        );
        assert_eq!(
            refused(Grouping::Columns(2), SizedBy::Request, &[("a", 49)]),
            "--groupsize 2 does not divide 49 columns (a). Use --groupsize -1 for one scale per row: vLLM and \
            transformers run that."
        );
        assert!(recipe(Grouping::Columns(16), SizedBy::Request).check_groups(&[("a", 48), ("b", 32)]).is_ok());
        assert!(recipe(Grouping::Row, SizedBy::Request).check_groups(&[("a", 49)]).is_ok());
    }
}
