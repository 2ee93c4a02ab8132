//! Layouts that compressed-tensors has dropped: what they hold, and what is said to those who ask for one.

use paring_format::Scheme;
use paring_format::layouts::Layout;
use paring_format::message;
use paring_format::message::Message;

use crate::Result;
use crate::plan::{ActOrder, Opt, Pattern, Recipe};

/// Errors unless what the recipe makes fits the layout, as far as that is known before the work.
pub(super) fn check(layout: &dyn Layout, recipe: &Recipe) -> Result<()> {
    let name = layout.name();
    let fail = |problem: Message| Err(Opt::Format.misuse(message![Opt::Format.with(name), " "].then(problem)));
    if recipe.spqr.is_some() {
        return fail("cannot hold SpQR's fractional zeros and outliers; use paring-spqr, spqr or dense".into());
    }
    let two_of_four = match recipe.pattern {
        Some(Pattern::NofM { keep, of }) => of > 0 && 4 % of == 0 && keep * (4 / of) <= 2,
        Some(Pattern::Unstructured(_)) => false,
        // Zeros that the model has already, or that masks say; whether they are in the right places shows when they are read.
        Some(Pattern::Given) | None => true,
    };
    if layout.needs_two_of_four() && !two_of_four {
        return fail(message!["keeps two of every four weights; prune with ", Opt::Pattern.with("2:4")]);
    }
    let holds_dense = layout.holds().dense;
    let Some(rounding) = &recipe.rounding else {
        return match holds_dense {
            true => Ok(()),
            false => {
                let [four, eight] = [4, 8].map(|bits| message![Opt::Wbits.with(bits), " ", Opt::Sym]);
                fail(message!["holds integers; add "].then(four).then(" or ").then(eight))
            }
        };
    };
    if !rounding.symmetric {
        return fail(message!["needs zeros to be stored as 0; add ", Opt::Sym]);
    }
    if rounding.act_order == ActOrder::Group && rounding.group_size().is_some() {
        return fail(message!["cannot store a group for each column; use ", Opt::ActOrder.with("static")]);
    }
    // Narrower codes than the layout has room for would make the output larger, not smaller.
    let fits = layout.code_bits(rounding.element) == rounding.element.bits();
    match (fits && layout.check_args(&rounding.args()).is_ok(), holds_dense) {
        (true, _) => Ok(()),
        (false, false) => {
            fail("holds integers of 4 or 8 bits in groups of 128 or whole rows; choose these, or another format".into())
        }
        (false, true) => {
            fail("holds integers of 8 bits or unquantized weights; choose these, or another format".into())
        }
    }
}

/// The scheme of weights that such a layout holds unquantized.
pub(super) fn dense_scheme(layout: &dyn Layout, recipe: &Recipe) -> Option<Scheme> {
    let dense = Scheme { targets: vec!["Linear".into()], format: layout.name().into(), ..Scheme::dense() };
    (layout.instead().is_some() && recipe.rounding.is_none()).then_some(dense)
}

/// Note for a run that chooses this layout.
pub(super) fn note(layout: &dyn Layout) -> Option<String> {
    let (name, instead) = (layout.name(), layout.instead()?);
    Some(format!("{name} is a legacy format that no other current program reads; use {instead} instead"))
}
