//! Storage and quantization in words.

use paring_format::{Compressed, Dynamic, Element, QuantArgs, ScaleType, Statistic, Strategy, Values};

/// What codes are.
fn element(element: Element, symmetric: bool) -> String {
    match element {
        Element::Int(bits) => format!("{bits} bit {}", if symmetric { "symmetric" } else { "asymmetric" }),
        Element::E4m3 => "fp8 e4m3".to_string(),
        Element::E2m1 => "fp4 e2m1".to_string(),
    }
}

/// What numbers share a scale, and what scales are.
fn shared(args: &QuantArgs) -> String {
    let shared = match args.strategy {
        Strategy::Tensor => "one scale".to_string(),
        Strategy::Channel => "rows".to_string(),
        Strategy::Group(size) => format!("groups of {size}"),
        Strategy::TensorGroup(size) => format!("groups of {size} under one scale"),
        Strategy::Block(rows, cols) => format!("blocks of {rows} by {cols}"),
        Strategy::Token => "tokens".to_string(),
        Strategy::Head => "heads".to_string(),
    };
    match args.scale_type {
        ScaleType::Float => shared,
        ScaleType::E4m3 => format!("{shared}, scales fp8 e4m3"),
        ScaleType::Exponent => format!("{shared}, scales powers of two"),
    }
}

/// How the weights of a group are quantized.
pub(super) fn weights(args: &QuantArgs) -> String {
    let zeros = if args.float_zeros && args.second.is_none() { ", zeros fractional" } else { "" };
    let order = if args.actorder.as_deref() == Some("group") { ", groups in activation order" } else { "" };
    let second = if args.second.is_some() { ", scales and zeros in codes" } else { "" };
    format!("{}, {}{zeros}{order}{second}", element(args.element, args.symmetric), shared(args))
}

/// How activations are quantized.
pub(super) fn activations(args: &QuantArgs) -> String {
    let found = match args.dynamic {
        Dynamic::No => "stored scale",
        Dynamic::Yes => "scales found as the model runs",
        Dynamic::Local => "scales of groups found as the model runs",
    };
    format!("{}, {}, {found}", element(args.element, args.symmetric), shared(args))
}

/// How a matrix is stored, in words.
pub(super) fn matrix(c: &Compressed, layout: &str) -> String {
    let groups = |size: usize| if size >= c.cols { "rows".to_string() } else { format!("groups of {size}") };
    match &c.values {
        Values::Dense(_) => layout.to_string(),
        Values::Codes { grid, .. } => {
            let of = element(grid.element, grid.zeros.is_none());
            let shared = match grid.tile {
                [1, size] => groups(size),
                [rows, cols] if (rows, cols) == (c.rows, c.cols) => "one scale".to_string(),
                [rows, cols] => format!("blocks of {rows} by {cols}"),
            };
            format!("{layout} {of}, {shared}")
        }
        Values::Spqr(spqr) => {
            let statistic = |name: &str, statistic: &Statistic| match statistic {
                Statistic::Plain(_) => format!("{name} {}", c.dtype),
                Statistic::Constant(_) => format!("no {name}"),
                Statistic::Integers(_) => format!("{name} whole"),
                Statistic::Coded { bits, rows, .. } => format!("{name} {bits} bit by {rows} rows"),
            };
            let order = if spqr.order.is_some() { "columns in another order" } else { "columns in file order" };
            format!(
                "{layout} {} bit, {}, {}, {}, {order}, {} outliers",
                spqr.bits,
                groups(spqr.group_size),
                statistic("scales", &spqr.scales),
                statistic("zeros", &spqr.zeros),
                spqr.outliers.at.len()
            )
        }
    }
}
