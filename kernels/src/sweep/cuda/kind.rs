//! Rules as the kernels know them: the kernel for each kind, its shared memory, and the columns of a launch.

use candle_core::Result;

use crate::matmul::Precision;
use crate::sweep::rule::{DropKind, FitKind};
use crate::sweep::{GPU_SLICE, GridFormat, Round, Rule, Scales, WideGroup};

/// Columns that a launch visits at most.
pub(super) const SLICE: usize = GPU_SLICE;
/// Rows of a block.
pub(super) const ROWS: usize = 16;
/// Threads of a block, eight a row.
pub(super) const THREADS: usize = 8 * ROWS;
/// Columns of a thread.
const PER: usize = 16;

/// The part of a rule that matrices must share to be swept at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kind<'a> {
    pub drop: DropKind,
    /// Without the global scale, which each matrix has for itself.
    pub round: Option<(GridFormat, FitKind<'a>)>,
    pub stored: Precision,
}

impl<'a> Kind<'a> {
    pub fn new(rule: Rule<'a>) -> Self {
        let round = rule.round.map(|Round { format, fit }| {
            let scales = match format.scales {
                Scales::E4m3 { .. } => Scales::E4m3 { global: 1.0 },
                other => other,
            };
            (GridFormat { scales, ..format }, fit.kind())
        });
        Self { drop: rule.drop_kind(), round, stored: rule.stored }
    }

    /// Groups in a row of `cols` columns; 0 where nothing is rounded.
    pub fn groups(&self, cols: usize) -> usize {
        self.round.map_or(0, |(_, fit)| fit.groups(cols))
    }

    /// The name of the kernel.
    pub fn kernel(&self) -> &'static str {
        match (self.drop, self.round.is_some()) {
            (DropKind::Nothing, false) => "sweep_store",
            (DropKind::Nothing, true) => "sweep_round",
            (DropKind::Masked(_), false) => "sweep_marked",
            (DropKind::Masked(_), true) => "sweep_marked_round",
            (DropKind::Groups { m: 4, .. }, false) => "sweep_of4",
            (DropKind::Groups { m: 4, .. }, true) => "sweep_of4_round",
            (DropKind::Groups { m: 8, .. }, false) => "sweep_of8",
            (DropKind::Groups { m: 8, .. }, true) => "sweep_of8_round",
            (DropKind::Groups { .. }, false) => "sweep_groups",
            (DropKind::Groups { .. }, true) => "sweep_groups_round",
        }
    }

    /// Bytes of shared memory of a block of that kernel: the factor and its diagonal, grids, and scores of groups that do
    /// not lie within a thread's columns.
    pub fn shared_bytes(&self) -> usize {
        let grids = if self.round.is_some() { 2 * PER * THREADS } else { 0 };
        let scores = match self.drop {
            DropKind::Groups { m: 4 | 8, .. } | DropKind::Nothing | DropKind::Masked(_) => 0,
            DropKind::Groups { .. } => ROWS * SLICE,
        };
        (SLICE * SLICE + SLICE + grids + scores) * size_of::<f32>()
    }

    /// Columns of a slice that are visited at once. A longer slice is swept in pieces: grids are fitted and thresholds
    /// found for all of it, and then the trailing columns of each piece are corrected by a product. Groups of n:m are not
    /// divided.
    pub fn piece(&self, slice: usize) -> Result<usize> {
        match self.drop {
            _ if slice <= SLICE => Ok(slice),
            DropKind::Groups { m, .. } if m > SLICE => Err(candle_core::Error::wrap(WideGroup { m, slice })),
            DropKind::Groups { m, .. } => Ok(SLICE - SLICE % m),
            DropKind::Nothing | DropKind::Masked(_) => Ok(SLICE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::rule::MaskSource;

    #[test]
    fn pieces_hold_whole_groups() {
        let piece = |slice, drop| Kind { drop, round: None, stored: Precision::F32 }.piece(slice);
        let groups = |m| DropKind::Groups { n: 1, m };
        assert_eq!(piece(100, groups(50)).unwrap(), 100);
        assert_eq!(piece(128, DropKind::Masked(MaskSource::Threshold)).unwrap(), 128);
        assert_eq!(piece(129, DropKind::Masked(MaskSource::Threshold)).unwrap(), 128);
        assert_eq!(piece(256, groups(4)).unwrap(), 128);
        assert_eq!(piece(240, groups(24)).unwrap(), 120);
        assert_eq!(piece(256, groups(128)).unwrap(), 128);
        // A group as wide as its slice needs no piece.
        assert_eq!(piece(96, groups(96)).unwrap(), 96);
        let error = piece(512, groups(256)).unwrap_err().to_string();
        assert!(error.contains("256 columns") && error.contains("at most 128"), "{error}");
    }
}
