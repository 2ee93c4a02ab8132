//! The contents of a checkpoint: a summary, and its tensors.

use std::cmp::Ordering;

use paring::commands::inspect::{GroupSummary, Summary, TensorSummary};
use paring::commands::verify::Coverage;
use paring::report::PRUNED;

use super::amounts::size;
use super::terminal::name;
use paring::report::words::plural;

/// Targets of a group that are named.
const TARGETS: usize = 4;

/// The summary, and below it a row for each kind of tensor, or for each tensor.
pub fn inspected(summary: &Summary, shards: usize, coverage: Option<Coverage>, every_tensor: bool) -> Vec<String> {
    let Summary { format, bits_per_weight, bytes, .. } = summary;
    let files = plural(shards, "weight file");
    let mut lines = vec![format!("{format}, {} in {files}, {bits_per_weight:.3} bits per weight", size(*bytes))];
    if let Some(Coverage { covered, ignored, untargeted }) = coverage {
        lines.push(format!("{} quantized, {ignored} ignored, {untargeted} unmatched", plural(covered, "linear")));
    }
    lines.extend(summary.groups.iter().map(group));
    if let Some(cache) = &summary.kv_cache {
        lines.push(format!("keys and values: {cache}"));
    }
    let is_pruned = (summary.groups.is_empty() && summary.sparsity > 0.0) || summary.sparsity >= PRUNED;
    if is_pruned {
        lines.push(format!("zeros in the linears: {:.2} %", 100.0 * summary.sparsity));
    }
    if summary.most_outliers().is_some() {
        let shares = summary.outlier_shares.iter().map(|(kind, share)| format!("{kind} {:.3} %", 100.0 * share));
        lines.push(format!("outliers by kind of linear: {}", shares.collect::<Vec<_>>().join(", ")));
    }
    lines.push(String::new());
    let mut tensors: Vec<&TensorSummary> = summary.tensors.iter().collect();
    tensors.sort_by(|a, b| natural(&a.name, &b.name));
    let rows = if every_tensor { tensors.into_iter().map(Row::of).collect() } else { kinds(&tensors) };
    lines.extend(table(&rows, is_pruned || every_tensor));
    lines
}

fn group(group: &GroupSummary) -> String {
    let GroupSummary { name, targets, format, weights, inputs, outputs, linears, bytes } = group;
    let mut what = format!("{name}: {}, {}, {format}", plural(*linears, "linear"), size(*bytes));
    let parts = [("weights", weights), ("inputs", inputs), ("outputs", outputs)];
    parts.iter().filter_map(|(of, how)| Some((of, how.as_ref()?))).for_each(|(of, how)| {
        what += &format!("; {of} {how}");
    });
    // Lists of all modules are what some configs have in the place of a class.
    let more = targets.len().saturating_sub(TARGETS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{what}; for {}{more}", targets[..targets.len().min(TARGETS)].join(", "))
}

/// A row of the table: one tensor, or some that are alike.
struct Row {
    name: String,
    count: usize,
    shape: String,
    bits: f64,
    zeros: f64,
    outliers: usize,
    format: String,
}

impl Row {
    fn of(tensor: &TensorSummary) -> Self {
        // The number of outliers has a column.
        let outliers = format!(", {} outliers", tensor.outliers);
        let format = tensor.format.strip_suffix(&outliers).filter(|_| tensor.outliers > 0);
        Self {
            name: tensor.name.clone(),
            count: 1,
            shape: tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
            bits: tensor.bits_per_weight,
            zeros: tensor.sparsity,
            outliers: tensor.outliers,
            format: format.unwrap_or(&tensor.format).to_string(),
        }
    }

    /// The same kind in any block.
    fn kind(tensor: &TensorSummary) -> Self {
        let of_block = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let parts: Vec<&str> = tensor.name.split('.').map(|part| if of_block(part) { "*" } else { part }).collect();
        Self { name: parts.join("."), ..Self::of(tensor) }
    }

    fn is_like(&self, other: &Self) -> bool {
        (&self.name, &self.shape, &self.format) == (&other.name, &other.shape, &other.format)
    }

    /// Adds another that is alike: bits and zeros are means.
    fn add(&mut self, other: &Self) {
        let count = self.count as f64;
        self.bits = (self.bits * count + other.bits) / (count + 1.0);
        self.zeros = (self.zeros * count + other.zeros) / (count + 1.0);
        self.outliers += other.outliers;
        self.count += 1;
    }
}

/// A row for tensors that are alike, in the order of the first of them.
fn kinds(tensors: &[&TensorSummary]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for tensor in tensors {
        let row = Row::kind(tensor);
        match rows.iter_mut().find(|other| other.is_like(&row)) {
            Some(other) => other.add(&row),
            None => rows.push(row),
        }
    }
    rows
}

/// Rows in columns, below the format that they share.
fn table(rows: &[Row], has_zeros: bool) -> Vec<String> {
    let names: Vec<String> = rows.iter().map(|row| name(&row.name)).collect();
    let width = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
    let name_width = width(&mut names.iter().map(|name| name.chars().count()));
    let shape_width = width(&mut rows.iter().map(|row| row.shape.len()));
    let line = |(row, name): (&Row, &String)| {
        let Row { count, shape, bits, outliers, .. } = row;
        let count = if *count > 1 { format!("{count} x") } else { String::new() };
        let zeros = if has_zeros { format!("  {:>5.1} % zero", 100.0 * row.zeros) } else { String::new() };
        let outliers = if *outliers > 0 { format!("  {}", plural(*outliers, "outlier")) } else { String::new() };
        format!("{count:>6} {name:<name_width$} {shape:>shape_width$} {bits:>7.3} bits{zeros}{outliers}")
    };
    let mut formats: Vec<&str> = Vec::new();
    rows.iter().map(|row| row.format.as_str()).for_each(|format| {
        if !formats.contains(&format) {
            formats.push(format);
        }
    });
    let of_format = |format: &str| {
        let of_it = rows.iter().zip(&names).filter(|(row, _)| row.format == format).map(line);
        std::iter::once(format.to_string()).chain(of_it).collect::<Vec<_>>()
    };
    formats.into_iter().flat_map(of_format).collect()
}

/// The order in which people count: numbers in names by their value.
fn natural(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(usize, String)> {
        let part = |part: &str| match part.bytes().all(|byte| byte.is_ascii_digit()) {
            // Longer numbers are larger.
            true => (part.trim_start_matches('0').len(), part.trim_start_matches('0').to_string()),
            false => (usize::MAX, part.to_string()),
        };
        text.split('.').map(part).collect()
    };
    parts(a).cmp(&parts(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn tensor(name: &str, bits: f64, outliers: usize) -> TensorSummary {
        let format = if outliers > 0 { format!("int4, {outliers} outliers") } else { "int4".to_string() };
        TensorSummary { name: name.into(), shape: vec![8, 16], format, bits_per_weight: bits, sparsity: 0.1, outliers }
    }

    fn summary(tensors: Vec<TensorSummary>, sparsity: f64) -> Summary {
        Summary {
            format: "dense".into(),
            groups: Vec::new(),
            kv_cache: None,
            tensors,
            bits_per_weight: 4.25,
            sparsity,
            outlier_shares: BTreeMap::new(),
            bytes: 1_500_000,
            notes: Vec::new(),
        }
    }

    #[test]
    fn blocks_are_counted_as_people_do() {
        let mut names = vec!["layers.10.q", "layers.2.q", "layers.2.k", "layers.1.q", "layers", "layers.x.q"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["layers", "layers.1.q", "layers.2.k", "layers.2.q", "layers.10.q", "layers.x.q"]);
    }

    #[test]
    fn a_summary_comes_first_and_rows_that_are_alike_are_one() {
        let tensors = vec![tensor("layers.10.q", 4.0, 0), tensor("layers.2.q", 5.0, 0), tensor("norm", 4.0, 0)];
        let coverage = Coverage { covered: 2, ignored: 1, untargeted: 0 };
        let lines = inspected(&summary(tensors.clone(), 0.25), 1, Some(coverage), false);
        assert_eq!(lines[0], "dense, 1.50 MB in 1 weight file, 4.250 bits per weight");
        assert_eq!(lines[1], "2 linears quantized, 1 ignored, 0 unmatched");
        assert_eq!(lines[2..4], ["zeros in the linears: 25.00 %", ""]);
        assert_eq!(
            lines[4..],
            [
                "int4",
                "   2 x layers.*.q 8x16   4.500 bits   10.0 % zero",
                "       norm       8x16   4.000 bits   10.0 % zero",
            ]
        );
        let all = inspected(&summary(tensors, 0.0), 3, None, true);
        assert!(all[0].contains("3 weight files") && all.len() == 6, "{all:?}");
        assert!(all[3].contains(" layers.2.q ") && all[4].contains(" layers.10.q "), "{all:?}");
    }

    #[test]
    fn outliers_of_a_kind_are_added() {
        let tensors = vec![tensor("layers.0.q", 4.0, 3), tensor("layers.1.q", 4.0, 4)];
        let lines = inspected(&summary(tensors, 0.0), 1, None, false);
        assert_eq!(lines[3..], ["int4", "   2 x layers.*.q 8x16   4.000 bits  7 outliers"]);
    }
}
