//! A fan on paper: what is asked for and given back while its linears are compressed, in the order of
//! `compress/visitor.rs` and `methods/`.

use paring_kernels::workspace;

use super::ledger::{Block, Ledger};
use super::sheet::{Linear, Sheet, Treatment};

const F32: usize = size_of::<f32>();

/// What is left of a linear after its sweep.
struct Outcome {
    /// The values that the file will hold.
    values: Block,
    dense: Block,
    dropped: Block,
    grids: Vec<Block>,
}

impl Sheet {
    /// Reads a linear as it is stored, to f32. `twice`: decoded, then copied.
    fn read(&self, ledger: &mut Ledger, linear: &Linear, twice: bool) -> Block {
        ledger.file(linear.read);
        let bytes = ledger.take("bytes of a file", linear.read);
        if !self.built_in {
            ledger.close(linear.read);
        }
        let values = if linear.dense {
            ledger.take("weights", F32 * linear.weights())
        } else {
            ledger.take("codes", linear.weights())
        };
        ledger.free(bytes);
        if linear.dense && !twice {
            return values;
        }
        let copy = ledger.take("weights", F32 * linear.weights());
        ledger.free(values);
        copy
    }

    /// Reads the weights of a block, one on each thread, and lays them out for products: one block for each linear.
    pub(super) fn load(&self, ledger: &mut Ledger, linears: &[Linear]) -> Vec<Block> {
        ledger.at("read");
        let mut loaded = Vec::with_capacity(linears.len());
        for wave in linears.chunks(self.threads.max(1)) {
            let read: Vec<Block> = wave.iter().map(|linear| self.read(ledger, linear, false)).collect();
            loaded.extend(wave.iter().zip(read).map(|(linear, values)| self.lay_out(ledger, linear, values)));
        }
        loaded
    }

    fn lay_out(&self, ledger: &mut Ledger, linear: &Linear, values: Block) -> Block {
        let (bytes, apart) = workspace::weight(linear.info.rows, linear.info.cols, self.precision);
        if !apart {
            return values;
        }
        let block = ledger.take("weights of the block", bytes);
        ledger.free(values);
        block
    }

    /// Compresses the linears of a fan; what they become in the output joins `shard`. `loaded` are the block's weights for
    /// products, by linear, where the block was read. `gram` says whether the fan has a Gram matrix.
    pub(super) fn fan(
        &self,
        ledger: &mut Ledger,
        linears: &[(usize, &Linear)],
        gram: bool,
        mut loaded: Option<&mut Vec<Option<Block>>>,
        shard: &mut Vec<Block>,
    ) {
        ledger.at("read");
        for (_, linear) in linears.iter().filter(|(_, l)| l.made.is_none()) {
            let values = self.read(ledger, linear, false);
            let dense = ledger.take("weights", F32 * linear.weights());
            shard.extend(linear.written.iter().map(|&bytes| ledger.take("shard", bytes)));
            ledger.free(dense);
            ledger.free(values);
        }
        let chosen: Vec<(usize, &Linear, &Treatment)> =
            linears.iter().filter_map(|&(i, l)| Some((i, l, l.made.as_ref()?))).collect();
        let Some(&(_, first, _)) = chosen.first() else { return };
        let mut originals = Vec::with_capacity(chosen.len());
        for wave in chosen.chunks(self.threads) {
            originals.extend(self.wave(ledger, wave));
        }
        ledger.at("factor");
        let mut factors: Vec<Block> = Vec::new();
        let mut by: Vec<(&Treatment, bool)> = Vec::new();
        for (_, _, made) in &chosen {
            if by.iter().any(|(other, alone)| !alone && other.prepares_like(made)) {
                continue;
            }
            by.push((made, made.alone));
            if gram && made.need == crate::plan::Curvature::Full {
                factors.push(factor(ledger, first.info.cols));
            }
        }
        ledger.at("sweep");
        let outcomes: Vec<Outcome> = chosen.iter().map(|(_, linear, made)| self.sweep(ledger, linear, made)).collect();
        ledger.at("error");
        if gram && self.errors {
            let of = |linear: &Linear| workspace::quadratic(linear.info.rows, linear.info.cols, self.precision);
            let form = ledger.take("scratch of products", of(first)[0]);
            for (_, linear, _) in &chosen {
                let product = ledger.take("scratch of products", of(linear)[1]);
                ledger.free(product);
            }
            ledger.free(form);
        }
        ledger.at("pack");
        let swaps = loaded.is_some();
        let mut outcomes = outcomes.into_iter();
        let mut finished = Vec::with_capacity(chosen.len());
        for wave in chosen.chunks(self.threads) {
            let made: Vec<Outcome> = outcomes.by_ref().take(wave.len()).collect();
            let parts: Vec<Vec<Block>> = wave
                .iter()
                .map(|(_, linear, _)| linear.written.iter().map(|&bytes| ledger.take("shard", bytes)).collect())
                .collect();
            for (((_, linear, _), outcome), parts) in wave.iter().zip(made).zip(parts) {
                let Outcome { values, dense, dropped, grids } = outcome;
                let laid = if swaps {
                    Some(self.lay_out(ledger, linear, dense))
                } else {
                    ledger.free(dense);
                    None
                };
                finished.push((values, dropped, grids, parts, laid));
            }
        }
        for ((i, _, _), (values, dropped, grids, parts, laid)) in chosen.iter().zip(finished) {
            shard.extend(parts);
            if let Some((loaded, laid)) = loaded.as_deref_mut().zip(laid)
                && let Some(before) = loaded[*i].replace(laid)
            {
                ledger.free(before);
            }
            ledger.free(values);
            ledger.free(dropped);
            grids.into_iter().for_each(|grid| ledger.free(grid));
        }
        ledger.free_all(factors);
        originals.into_iter().for_each(|original| ledger.free(original));
    }

    /// Linears that are read at once, by a thread each.
    fn wave(&self, ledger: &mut Ledger, wave: &[(usize, &Linear, &Treatment)]) -> Vec<Block> {
        let mut bytes = Vec::new();
        for (_, linear, _) in wave {
            ledger.file(linear.read);
            bytes.push(ledger.take("bytes of a file", linear.read));
        }
        if !self.built_in {
            wave.iter().for_each(|(_, linear, _)| ledger.close(linear.read));
        }
        let decoded: Vec<Block> = wave
            .iter()
            .map(|(_, l, _)| ledger.take("weights as read", if l.dense { F32 } else { 1 } * l.weights()))
            .collect();
        bytes.into_iter().for_each(|bytes| ledger.free(bytes));
        let copies = wave.iter().map(|(_, l, _)| ledger.take("weights of a fan", F32 * l.weights())).collect();
        decoded.into_iter().for_each(|values| ledger.free(values));
        copies
    }

    /// One linear through its sweep.
    fn sweep(&self, ledger: &mut Ledger, linear: &Linear, made: &Treatment) -> Outcome {
        let (rows, weights) = (linear.info.rows, linear.weights());
        let full = F32 * weights;
        let grids = F32 * rows * made.groups;
        let before: Vec<Block> = match made.before && made.spqr.is_none() {
            true => [grids; 2].map(|bytes| ledger.take("grids", bytes)).into(),
            false => Vec::new(),
        };
        // A copy whose dead columns are cleared, and where there is one the copy in the order of the visit.
        let cleared = ledger.take("weights before the sweep", full);
        let visited = if !made.permuted {
            cleared
        } else {
            let visited = ledger.take("weights before the sweep", full);
            ledger.free(cleared);
            visited
        };
        // Zeros of the input stay zeros: nearly every matrix has one.
        let zeros = (made.rounds && made.spqr.is_none()).then(|| ledger.take("marks", weights));
        let swept = ledger.take("weights in the sweep", full);
        let mut dropped = None;
        if made.spqr.is_none() {
            dropped = Some(ledger.take("marks", weights));
        }
        let codes = made.rounds.then(|| ledger.take("codes", weights));
        let outliers = made.spqr.map(|_| ledger.take("marks", weights));
        let mut own: Vec<Block> = Vec::new();
        if made.rounds {
            own.extend([grids; 2].map(|bytes| ledger.take("grids", bytes)));
        }
        let coded = made.spqr.iter().flatten().filter(|coded| **coded).count();
        let seconds = F32 * rows.div_ceil(made.spqr_rows) * made.groups;
        let second: Vec<Block> = (0..coded)
            .flat_map(|_| [rows * made.groups, seconds, seconds])
            .map(|bytes| ledger.take("grids", bytes))
            .collect();
        let full_curvature = made.need == crate::plan::Curvature::Full;
        let panels = if full_curvature { workspace::trailing_update(linear.info.cols, made.slice) } else { 0 };
        let panels = ledger.take("scratch of products", panels);
        if made.ranks {
            let scores = ledger.take("scores", F32 * rows * made.slice);
            let ranked = ledger.take("scores", F32 * rows * made.slice);
            ledger.free(ranked);
            ledger.free(scores);
        }
        ledger.free(panels);
        // Back into the order of the file.
        let restored = |ledger: &mut Ledger, name, bytes, block: Block| {
            if !made.permuted {
                return block;
            }
            let copy = ledger.take(name, bytes);
            ledger.free(block);
            copy
        };
        let codes = match (codes, made.spqr) {
            (Some(codes), None) => Some(restored(ledger, "codes", weights, codes)),
            (codes, _) => codes,
        };
        let dropped = match dropped {
            Some(dropped) => restored(ledger, "marks", weights, dropped),
            // Zeros that nobody reads.
            None => ledger.touched("marks", weights, 0),
        };
        let mut grids_kept: Vec<Block> = Vec::new();
        if made.rounds {
            grids_kept.extend([grids; 2].map(|bytes| ledger.take("grids", bytes)));
            if made.spqr.is_some() {
                let copies = (0..coded).flat_map(|_| [rows * made.groups, seconds, seconds]);
                grids_kept.extend(copies.map(|bytes| ledger.take("grids", bytes)).collect::<Vec<_>>());
            }
        }
        let dense = restored(ledger, "weights after the sweep", full, swept);
        let values = match codes {
            Some(codes) => codes,
            None => ledger.take("weights after the sweep", full),
        };
        if made.spqr.is_some() {
            ledger.free_all(own);
        } else {
            grids_kept.extend(own);
        }
        ledger.free_all(second);
        outliers.into_iter().for_each(|block| ledger.free(block));
        zeros.into_iter().for_each(|block| ledger.free(block));
        ledger.free(visited);
        ledger.free_all(before);
        Outcome { values, dense, dropped, grids: grids_kept }
    }
}

/// The factor of a matrix of `cols` rows.
fn factor(ledger: &mut Ledger, cols: usize) -> Block {
    let square = F32 * cols * cols;
    let [damped, lower, inverse] = workspace::factor(cols);
    let damped = ledger.take("damped matrix", damped);
    let lower = ledger.take("scratch of the factor", lower);
    let inverse = ledger.take("scratch of the factor", inverse);
    ledger.free(lower);
    // Below the diagonal it is never written.
    let factor = ledger.touched("factor", square, square / 2);
    ledger.free(inverse);
    ledger.free(damped);
    factor
}
