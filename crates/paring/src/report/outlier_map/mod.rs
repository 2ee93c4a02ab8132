//! A drawing of a matrix's outliers, as the figure in the SpQR paper (arXiv 2306.03078, "Exploring
//! parameter sensitivity") does it: rows are outputs, columns are inputs.

#[cfg(test)]
mod tests;

use std::fmt::Write;

/// Cells of the map along each side, at most: tried in this order until the drawing is small enough.
const CELLS: [usize; 3] = [512, 384, 256];
/// Bytes that the map may take.
const MAP_BYTES: usize = 900_000;
/// Shades of density.
const SHADES: usize = 4;

/// Length of the map's longer side and least length of the shorter one, in pixels.
const LONG: f64 = 512.0;
const SHORT: f64 = 128.0;
/// Height of the histograms and the gap before them.
const BARS: f64 = 64.0;
const GAP: f64 = 8.0;
/// Space for the title, left of the map, and right of and below everything.
const TOP: f64 = 84.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 64.0;
const BOTTOM: f64 = 84.0;
/// Letters of the title that fit across; longer names lose their middle.
const TITLE: usize = 64;
/// Pixels of a letter of the title in the widest of the usual fonts, and between two ticks at least.
const LETTER: f64 = 10.0;
const TICK: f64 = 36.0;

/// Colours follow the reader's light or dark theme; the shades are steps of one hue, the emptiest nearest to the
/// background.
const STYLE: &str = "\
svg{color-scheme:light dark;font:12px system-ui,-apple-system,'Segoe UI',sans-serif;background:#fff}\
text{fill:#52606d}.t{font-size:15px;font-weight:600;fill:#1b232c}\
.p{fill:#fff}.f{fill:none;stroke:#9aa5b1}.k{stroke:#9aa5b1}.b{fill:#3c7fc4}\
.m{fill:none;stroke-width:1}\
.s0{stroke:#8fbbe8}.s1{stroke:#4a8fd6}.s2{stroke:#1d5fae}.s3{stroke:#0b2f66}\
@media(prefers-color-scheme:dark){svg,.p{background:#14181d;fill:#14181d}text{fill:#9fb0c0}.t{fill:#eef3f8}\
.f,.k{stroke:#55636f}.b{fill:#4a8fd6}\
.s0{stroke:#2f64a0}.s1{stroke:#4f93da}.s2{stroke:#98c4f2}.s3{stroke:#f0f7ff}}";

/// The beginning of every drawing, and what follows its size.
const BEGINNING: [&str; 2] = ["<svg xmlns=\"http://www.w3.org/2000/svg\" ", "role=\"img\"><title>Outliers of "];

/// Tells whether a file that begins so is a drawing that is made here.
pub fn is_own(head: &[u8]) -> bool {
    let [first, second] = BEGINNING.map(str::as_bytes);
    head.starts_with(first) && head.windows(second.len()).any(|part| part == second)
}

/// Outliers counted by cells of `[height, width]` weights.
struct Bins {
    /// Weights of a cell, down and across; the last cells may have fewer.
    height: usize,
    width: usize,
    /// Cells of a row of them.
    across: usize,
    /// Row-major `[cells down, across]`.
    counts: Vec<u32>,
}

impl Bins {
    fn new(rows: usize, cols: usize, mask: &[u8], limit: usize) -> Self {
        let (height, width) = (rows.div_ceil(limit).max(1), cols.div_ceil(limit).max(1));
        let (down, across) = (rows.div_ceil(height), cols.div_ceil(width));
        let mut counts = vec![0; down * across];
        for (row, mask) in mask.chunks_exact(cols.max(1)).take(rows).enumerate() {
            let cells = &mut counts[row / height * across..][..across];
            for (cell, mask) in cells.iter_mut().zip(mask.chunks(width)) {
                *cell += mask.iter().filter(|&&kept| kept != 0).count() as u32;
            }
        }
        Self { height, width, across, counts }
    }

    /// The least count of each shade, so that shades are even steps of the logarithm up to the fullest cell.
    fn steps(&self) -> Vec<u32> {
        let most = self.counts.iter().copied().max().unwrap_or(0);
        let step = |shade: usize| f64::from(most).powf(shade as f64 / SHADES as f64).ceil() as u32;
        let mut steps: Vec<u32> = (0..SHADES).map(|shade| step(shade).max(1)).filter(|&least| least <= most).collect();
        steps.dedup();
        steps
    }

    /// The map: a path per shade, of horizontal strokes over neighbouring cells of that shade, in cells.
    fn map(&self, steps: &[u32]) -> String {
        let shade = |count: u32| steps.iter().rposition(|&least| count >= least);
        let mut paths = vec![(String::new(), (0i64, 0i64)); steps.len()];
        for (y, cells) in self.counts.chunks_exact(self.across.max(1)).enumerate() {
            let mut x = 0;
            for run in cells.chunk_by(|&a, &b| shade(a) == shade(b)) {
                if let Some((path, pen)) = shade(run[0]).and_then(|shade| paths.get_mut(shade)) {
                    let (right, down) = (x as i64 - pen.0, y as i64 - pen.1);
                    // Writing to a string cannot fail.
                    let _ = write!(path, "m{right} {down}h{}", run.len());
                    *pen = ((x + run.len()) as i64, y as i64);
                }
                x += run.len();
            }
        }
        // With fewer shades than there are colours, the strongest ones are used.
        let first = SHADES - steps.len().min(SHADES);
        let path = |(i, (path, _)): (usize, &(String, _))| format!("<path class=\"m s{}\" d=\"{path}\"/>", first + i);
        paths.iter().enumerate().map(path).collect()
    }
}

/// The place of the map in the picture.
struct Frame {
    x0: f64,
    y0: f64,
    x1: f64,
    y1: f64,
    wide: f64,
    high: f64,
}

impl Axis<'_> {
    /// Its bars, and their scale.
    fn histogram(&self, &Frame { x0, y0, x1, y1, wide, high }: &Frame) -> [String; 2] {
        let (bars, most) = self.bars();
        let place = match self.across {
            true => format!("translate({x0} {:.2})scale(1 -1)", y0 - GAP),
            false => format!("translate({:.2} {y0})matrix(0 1 1 0 0 0)", x1 + GAP),
        };
        let (line, label) = match self.across {
            true => (
                format!("M{x0} {:.2}h{wide:.2}m0 {:.2}h5", y0 - GAP, -BARS),
                text(x1 + 8.0, y0 - GAP - BARS + 4.0, "", "start", &format!("{} of a column", percent(most))),
            ),
            false => (
                format!("M{:.2} {y0}v{high:.2}m{BARS:.2} 0v5", x1 + GAP),
                text(x1 + GAP + BARS, y1 + 18.0, "", "middle", &format!("{} of a row", percent(most))),
            ),
        };
        [
            format!("<path class=\"b\" transform=\"{place}\" d=\"{bars}\"/>"),
            format!("<path class=\"f\" d=\"{line}\"/>{label}"),
        ]
    }

    /// Ticks with their numbers.
    fn labels(&self, &Frame { x0, y0, y1, .. }: &Frame) -> Vec<String> {
        let label = |at: usize| {
            let offset = self.length * at as f64 / self.sums.len().max(1) as f64;
            match self.across {
                true => format!(
                    "<path class=\"k\" d=\"M{:.2} {y1:.2}v5\"/>{}",
                    x0 + offset,
                    text(x0 + offset, y1 + 18.0, "", "middle", &at.to_string())
                ),
                false => format!(
                    "<path class=\"k\" d=\"M{x0} {:.2}h-5\"/>{}",
                    y0 + offset,
                    text(x0 - 8.0, y0 + offset + 4.0, "", "end", &at.to_string())
                ),
            }
        };
        ticks(self.sums.len(), (self.length / TICK) as usize).map(label).collect()
    }
}

/// An SVG of the outliers of a `[rows, cols]` matrix, `mask` being 1 where there is one, row-major: a map with a
/// histogram over the columns on top and one over the rows on the right. The file needs nothing else, holds no scripts
/// and stays below 1 MB, whatever the matrix. Visits each weight.
pub fn outliers(module: &str, rows: usize, cols: usize, mask: &[u8]) -> String {
    let (mut bins, mut steps, mut map) = drawn(rows, cols, mask, CELLS[0]);
    for limit in CELLS.into_iter().skip(1) {
        if map.len() <= MAP_BYTES {
            break;
        }
        (bins, steps, map) = drawn(rows, cols, mask, limit);
    }
    let longer = rows.max(cols).max(1) as f64;
    let side = |length: usize| (LONG * length as f64 / longer).max(SHORT);
    let (wide, high) = (side(cols), side(rows));
    let (x0, y0) = (LEFT, TOP + BARS + GAP);
    let (x1, y1) = (x0 + wide, y0 + high);
    let title = shortened(module, TITLE);
    // Room for letters of the title's size, and for the other lines of text.
    let width = (x1 + GAP + BARS + RIGHT).max(LEFT + 520.0).max(LEFT + LETTER * title.chars().count() as f64);
    let height = y1 + BOTTOM;

    let (by_row, by_col) = (sums(rows, cols, mask, true), sums(rows, cols, mask, false));
    let total: usize = by_row.iter().sum();
    let share = |count: usize, of: usize| percent(count as f64 / of.max(1) as f64);
    let name = escaped(module);
    let about = format!("{rows} × {cols} weights, {total} outliers ({})", share(total, rows * cols));
    let mut svg = format!(
        "{}width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" {}{name}</title>\
         <desc>{about}</desc>\
         <style>{STYLE}</style><rect class=\"p\" width=\"100%\" height=\"100%\"/>\n",
        BEGINNING[0], BEGINNING[1]
    );
    let mut put = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    put(text(LEFT, 26.0, "t", "start", &escaped(&title)));
    put(text(LEFT, 46.0, "", "start", &about));
    if let (Some((row, in_row)), Some((col, in_col))) = (fullest(&by_row), fullest(&by_col)) {
        let fullest = format!(
            "most in output row {row} ({}) and input column {col} ({})",
            share(in_row, cols),
            share(in_col, rows)
        );
        put(text(LEFT, 64.0, "", "start", &fullest));
    }

    // A nested picture: its unit is a cell, and the excess of a last cell is cut off.
    put(format!(
        "<svg x=\"{x0}\" y=\"{y0}\" width=\"{wide:.2}\" height=\"{high:.2}\" viewBox=\"0 -.5 {:.4} {:.4}\" \
         preserveAspectRatio=\"none\" shape-rendering=\"crispEdges\">{map}</svg>",
        cols as f64 / bins.width as f64,
        rows as f64 / bins.height as f64
    ));
    put(format!("<rect class=\"f\" x=\"{x0}\" y=\"{y0}\" width=\"{wide:.2}\" height=\"{high:.2}\"/>"));

    let frame = Frame { x0, y0, x1, y1, wide, high };
    for axis in [
        Axis { sums: &by_col, per: rows, step: bins.width, length: wide, across: true },
        Axis { sums: &by_row, per: cols, step: bins.height, length: high, across: false },
    ] {
        axis.histogram(&frame).into_iter().for_each(&mut put);
        axis.labels(&frame).into_iter().for_each(&mut put);
    }
    put(text(x0 + wide / 2.0, y1 + 38.0, "", "middle", "input column"));
    put(format!(
        "<text transform=\"translate({:.2} {:.2})rotate(-90)\" text-anchor=\"middle\">output row</text>",
        x0 - 56.0,
        y0 + high / 2.0
    ));
    put(legend(&bins, &steps, y1 + 66.0));
    svg.push_str("</svg>\n");
    svg
}

fn drawn(rows: usize, cols: usize, mask: &[u8], limit: usize) -> (Bins, Vec<u32>, String) {
    let bins = Bins::new(rows, cols, mask, limit);
    let steps = bins.steps();
    let map = bins.map(&steps);
    (bins, steps, map)
}

/// Outliers of each row, or of each column.
fn sums(rows: usize, cols: usize, mask: &[u8], of_rows: bool) -> Vec<usize> {
    let mut sums = vec![0; if of_rows { rows } else { cols }];
    for (row, mask) in mask.chunks_exact(cols.max(1)).take(rows).enumerate() {
        for (col, _) in mask.iter().enumerate().filter(|(_, kept)| **kept != 0) {
            sums[if of_rows { row } else { col }] += 1;
        }
    }
    sums
}

/// The first row or column with the most outliers, and their number.
fn fullest(sums: &[usize]) -> Option<(usize, usize)> {
    sums.iter().copied().enumerate().rev().max_by_key(|&(_, count)| count).filter(|&(_, count)| count > 0)
}

/// A histogram beside the map.
struct Axis<'a> {
    /// Outliers of each row or column.
    sums: &'a [usize],
    /// Weights in each.
    per: usize,
    /// Rows or columns of a bar.
    step: usize,
    /// Pixels along the map.
    length: f64,
    across: bool,
}

impl Axis<'_> {
    /// The outline of the bars, x along the map and y away from it, and the share that the highest one stands for. A bar
    /// of several rows is as high as the fullest of them, so that a single one shows.
    fn bars(&self) -> (String, f64) {
        let share = |bar: &[usize]| bar.iter().copied().max().unwrap_or(0) as f64 / self.per.max(1) as f64;
        let shares: Vec<f64> = self.sums.chunks(self.step.max(1)).map(share).collect();
        let most = shares.iter().copied().fold(0.0, f64::max);
        let unit = self.length / self.sums.len().max(1) as f64;
        let mut path = "M0 0".to_string();
        for (i, share) in shares.iter().enumerate() {
            let end = (self.step * (i + 1)).min(self.sums.len()) as f64 * unit;
            let _ = write!(path, "V{:.1}H{end:.1}", if most > 0.0 { BARS * share / most } else { 0.0 });
        }
        path.push_str("V0z");
        (path, most)
    }
}

/// Draws the meaning of the shades.
fn legend(bins: &Bins, steps: &[u32], y: f64) -> String {
    let most = bins.counts.iter().copied().max().unwrap_or(0);
    let single = bins.width == 1 && bins.height == 1;
    let what = match single {
        true => "a weight that is kept exact".to_string(),
        false => format!("outliers in a cell of {} × {} weights", bins.height, bins.width),
    };
    let mut line = String::new();
    let mut x = LEFT;
    for (i, &least) in steps.iter().enumerate() {
        let top = steps.get(i + 1).map_or(most, |next| next - 1);
        let shade = SHADES - steps.len() + i;
        let _ = write!(line, "<path class=\"m s{shade}\" style=\"stroke-width:12\" d=\"M{x} {:.2}h12\"/>", y - 4.0);
        x += 18.0;
        if !single {
            let range = if least == top { least.to_string() } else { format!("{least}–{top}") };
            line += &text(x, y, "", "start", &range);
            x += 14.0 + 7.0 * range.chars().count() as f64;
        }
    }
    line + &text(x, y, "", "start", &what)
}

/// Round numbers from 0 on, at most `most` and eight of them, below `length`.
pub fn ticks(length: usize, most: usize) -> impl Iterator<Item = usize> {
    let mut step = 1;
    while length.div_ceil(most.clamp(1, 8)) > step {
        // 1, 2, 5, 10, 20, …
        let leads_with_two = step.to_string().starts_with('2');
        step = if leads_with_two { step / 2 * 5 } else { step * 2 };
    }
    (0..length.max(1)).step_by(step)
}

/// A share in per cent, to two digits.
pub fn percent(share: f64) -> String {
    match 100.0 * share {
        p if p == 0.0 || p >= 10.0 => format!("{p:.0} %"),
        p if p >= 1.0 => format!("{p:.1} %"),
        p if p >= 0.1 => format!("{p:.2} %"),
        p => format!("{p:.3} %"),
    }
}

fn text(x: f64, y: f64, class: &str, anchor: &str, content: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x:.2}\" y=\"{y:.2}\" text-anchor=\"{anchor}\">{content}</text>")
}

/// Shortens a name that is too long by its middle.
pub(super) fn shortened(name: &str, limit: usize) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= limit {
        return name.to_string();
    }
    let half = limit / 2;
    letters[..half].iter().chain(&['…']).chain(&letters[letters.len() - half..]).collect()
}

/// Escapes text for XML; characters that XML cannot hold become U+FFFD.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}
