//! The mask of one linear: a bit for each weight.

/// The weights of a linear that stay, a bit for each: 1 = kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits {
    rows: usize,
    cols: usize,
    /// `[rows, ⌈cols / 8⌉]`, the lowest bit of a byte first; bits after the last column are 0.
    bytes: Vec<u8>,
}

/// A group of columns with more weights that stay than it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowded {
    /// Its row.
    pub row: usize,
    /// Its first column.
    pub column: usize,
    /// Weights of it that stay.
    pub kept: usize,
}

/// Sizes of groups that [`Bits::pattern`] looks for.
const GROUPS: [usize; 5] = [2, 4, 8, 16, 32];
/// The share of the weights that a pattern keeps at most, which must be there for it to count: rounding makes zeros of its own,
/// and among few weights almost any pattern holds by chance.
const FULL: f64 = 0.75;

impl Bits {
    /// Of packed bytes, `None` where they are no `[rows, ⌈cols / 8⌉]`. Bits after the last column are cleared.
    pub(super) fn from_packed(rows: usize, cols: usize, mut bytes: Vec<u8>) -> Option<Self> {
        let step = cols.div_ceil(8);
        if cols == 0 || rows.checked_mul(step)? != bytes.len() {
            return None;
        }
        if let Some(used) = padded(cols) {
            bytes.chunks_exact_mut(step).for_each(|row| row[step - 1] &= used);
        }
        Some(Self { rows, cols, bytes })
    }

    /// Of `[rows, cols]` values, row by row: those stay for which `kept` is true. `None` where their number is
    /// another.
    pub(super) fn from_values<T>(rows: usize, cols: usize, values: &[T], kept: impl Fn(&T) -> bool) -> Option<Self> {
        if cols == 0 || rows.checked_mul(cols)? != values.len() {
            return None;
        }
        let mut bytes = Vec::with_capacity(rows * cols.div_ceil(8));
        for row in values.chunks_exact(cols) {
            let byte = |eight: &[T]| eight.iter().enumerate().fold(0, |byte, (i, v)| byte | u8::from(kept(v)) << i);
            bytes.extend(row.chunks(8).map(byte));
        }
        Some(Self { rows, cols, bytes })
    }

    /// The mask of a weight, row-major `[rows, cols]`: what is not zero stays. `None` where it has another number of
    /// elements.
    pub fn of_weight(rows: usize, cols: usize, weight: &[f32]) -> Option<Self> {
        Self::from_values(rows, cols, weight, |&w| w != 0.0)
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The bits as files have them: `[rows, ⌈cols / 8⌉]`, the lowest bit of a byte first, 0 after the last column.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// True if the weight stays; false outside the matrix.
    pub fn kept(&self, row: usize, col: usize) -> bool {
        let at = (row < self.rows && col < self.cols).then(|| row * self.cols.div_ceil(8) + col / 8);
        at.and_then(|at| self.bytes.get(at)).is_some_and(|byte| byte >> (col % 8) & 1 == 1)
    }

    /// A row, true where the weight stays; empty outside the matrix.
    pub fn row(&self, row: usize) -> impl Iterator<Item = bool> + '_ {
        let cols = if row < self.rows { self.cols } else { 0 };
        let bits = self.packed_row(row).iter().flat_map(|byte| (0..8).map(move |i| byte >> i & 1 == 1));
        bits.take(cols)
    }

    /// All weights, row by row, true where one stays.
    pub fn iter(&self) -> impl Iterator<Item = bool> + '_ {
        (0..self.rows).flat_map(|row| self.row(row))
    }

    fn packed_row(&self, row: usize) -> &[u8] {
        let step = self.cols.div_ceil(8);
        let start = row.saturating_mul(step);
        self.bytes.get(start..start.saturating_add(step)).unwrap_or_default()
    }

    /// Weights of a row that stay.
    pub fn kept_in_row(&self, row: usize) -> usize {
        ones(self.packed_row(row))
    }

    /// Weights that stay.
    pub fn count(&self) -> usize {
        ones(&self.bytes)
    }

    /// Share of the weights that go.
    pub fn sparsity(&self) -> f64 {
        let all = self.rows as f64 * self.cols as f64;
        if all > 0.0 { 1.0 - self.count() as f64 / all } else { 0.0 }
    }

    /// A mark for each weight, row-major `[rows, cols]`: 1 where it goes, 0 where it stays.
    pub fn removed(&self) -> Vec<u8> {
        let mut marks = Vec::with_capacity(self.rows * self.cols);
        for row in 0..self.rows {
            for (eight, byte) in self.packed_row(row).iter().enumerate() {
                marks.extend((0..8.min(self.cols - 8 * eight)).map(|i| !byte >> i & 1));
            }
        }
        marks
    }

    /// Sets the weights that go to 0, in a matrix row-major `[rows, cols]`; what lies beyond it stays as it is.
    pub fn apply(&self, weight: &mut [f32]) {
        for (row, weights) in weight.chunks_mut(self.cols.max(1)).take(self.rows).enumerate() {
            weights.iter_mut().zip(self.row(row)).filter(|(_, kept)| !kept).for_each(|(w, _)| *w = 0.0);
        }
    }

    /// Errors with the first of all groups of `of` consecutive columns of a row that keeps more than `keep` weights; the last group
    /// of a row may be shorter.
    pub fn check(&self, keep: usize, of: usize) -> Result<(), Crowded> {
        for row in 0..self.rows {
            if let Some((at, kept)) = self.groups(row, of).enumerate().find(|(_, kept)| *kept > keep) {
                return Err(Crowded { row, column: at * of, kept });
            }
        }
        Ok(())
    }

    /// Weights that stay in each group of `of` consecutive columns of a row.
    fn groups(&self, row: usize, of: usize) -> impl Iterator<Item = usize> + '_ {
        let mut bits = self.row(row).peekable();
        std::iter::from_fn(move || {
            bits.peek()?;
            Some(bits.by_ref().take(of.max(1)).filter(|kept| *kept).count())
        })
    }

    /// The most weights that stay in a group of `of` columns, which is one of [`GROUPS`] and divides the columns: groups begin at a byte, or
    /// whole ones lie in a byte.
    fn most(&self, of: usize) -> usize {
        let most = match of {
            2 => self.bytes.iter().map(|&byte| in_pair(byte)).max(),
            4 => self.bytes.iter().map(|byte| ones(&[byte & 15]).max(ones(&[byte >> 4]))).max(),
            _ => (0..self.rows).flat_map(|row| self.packed_row(row).chunks(of / 8).map(ones)).max(),
        };
        most.unwrap_or(0)
    }

    /// The pattern N:M that holds, as `(N, M)`: of M a power of two up to 32 that divides the columns, the one that keeps the least,
    /// and the smallest of several. `None` where every M has a group that keeps all, and where many fewer stay than the
    /// pattern would keep: it holds by chance then.
    pub fn pattern(&self) -> Option<(usize, usize)> {
        let stays = 1.0 - self.sparsity();
        let mut best: Option<(usize, usize)> = None;
        for of in GROUPS.into_iter().filter(|of| self.cols.is_multiple_of(*of)) {
            let keep = self.most(of);
            let holds = keep < of && stays >= FULL * keep as f64 / of as f64;
            if holds && best.is_none_or(|(other, among)| keep * among < other * of) {
                best = Some((keep, of));
            }
        }
        best
    }
}

/// The most bits of a byte that are set in two neighbours, counted from the lowest.
fn in_pair(byte: u8) -> usize {
    match byte {
        0 => 0,
        _ if byte & byte >> 1 & 0x55 != 0 => 2,
        _ => 1,
    }
}

/// The bits of a row's last byte that have columns; `None` where all have.
pub(super) fn padded(cols: usize) -> Option<u8> {
    match cols % 8 {
        0 => None,
        used => Some((1 << used) - 1),
    }
}

fn ones(bytes: &[u8]) -> usize {
    bytes.iter().map(|byte| byte.count_ones() as usize).sum()
}
