//! Storage and quantization in words.

use paring_format::{Compressed, Dynamic, QuantArgs, Statistic, Values};

/// Describes how activations are quantized, and that their scales are stored if they are.
pub(super) fn activations(args: &QuantArgs) -> String {
    match args.dynamic {
        Dynamic::No => format!("{args}, stored scale"),
        Dynamic::Yes | Dynamic::Local => args.to_string(),
    }
}

/// Describes how a matrix is stored.
pub(super) fn matrix(c: &Compressed, layout: &str) -> String {
    match (&c.values, QuantArgs::of(c)) {
        (Values::Dense(_), _) | (_, None) => layout.to_string(),
        (Values::Codes { .. }, Some(args)) => format!("{layout} {args}"),
        (Values::Spqr(spqr), Some(args)) => {
            let statistic = |name: &str, statistic: &Statistic| match statistic {
                Statistic::Plain(_) => format!("{name} {}", c.dtype),
                Statistic::Constant(_) => format!("no {name}"),
                Statistic::Integers(_) => format!("{name} whole"),
                Statistic::Coded { bits, rows, .. } => format!("{name} {bits}-bit by {rows} rows"),
            };
            let order = if spqr.order.is_some() { "columns in another order" } else { "columns in file order" };
            format!(
                "{layout} {}-bit, {}, {}, {}, {order}, {} outliers",
                spqr.bits,
                args.strategy,
                statistic("scales", &spqr.scales),
                statistic("zeros", &spqr.zeros),
                spqr.outliers.at.len()
            )
        }
    }
}
