//! `weight_g_idx`: the group of each column, where columns were quantized in another order than they are stored.
//!
//! Releases of compressed-tensors up to 0.18 stored it for the activation order "group"; current readers have dropped it.

use super::take;
use crate::{Dtype, Error, LayoutPart, LayoutParts, QuantArgs, Result, Strategy};

const NAME: &str = "weight_g_idx";

/// The groups of `cols` columns as a part with its name, if the arguments have one. A matrix without says so with -1.
///
/// Errors when there are groups of columns that the arguments do not have, or groups of another size.
pub(super) fn encode(
    args: &QuantArgs,
    index: Option<&[u32]>,
    cols: usize,
) -> Result<Option<(&'static str, LayoutPart)>> {
    let Some(size) = size(args) else {
        return match index {
            None => Ok(None),
            Some(_) => Err(Error::parts("columns have groups of their own, but the activation order is not \"group\"")),
        };
    };
    let groups = match index {
        None => vec![-1; cols],
        Some(index) => index.iter().map(|&group| i32::try_from(group).unwrap_or(i32::MAX)).collect(),
    };
    if index.is_some() {
        check(&groups, size)?;
    }
    let bytes = groups.iter().flat_map(|group| group.to_le_bytes()).collect();
    Ok(Some((NAME, LayoutPart { dtype: Dtype::I32, shape: vec![cols], bytes })))
}

/// The group of each of `cols` columns; `None` when they follow each other as they are stored.
///
/// Errors when the part is missing although the arguments have one, is no `[cols]` of I32, or lists groups that are not
/// there or of another size.
pub(super) fn decode(args: &QuantArgs, parts: &LayoutParts, cols: usize) -> Result<Option<Vec<u32>>> {
    if size(args).is_none() && !parts.contains_key(NAME) {
        return Ok(None);
    }
    let part = take(parts, NAME, &[Dtype::I32])?;
    part.expect_shape(NAME, &[cols])?;
    let groups: Vec<i32> = part.bytes.as_chunks::<4>().0.iter().map(|&group| i32::from_le_bytes(group)).collect();
    if groups.contains(&-1) {
        return Ok(None);
    }
    let Strategy::Group(size) = args.strategy else {
        return Err(Error::parts(format!("{NAME} belongs to scales by group, not to {}", args.strategy)));
    };
    check(&groups, size)?;
    Ok(Some(groups.into_iter().map(|group| group as u32).collect()))
}

/// The size of groups whose columns may be anywhere.
fn size(args: &QuantArgs) -> Option<usize> {
    match args.strategy {
        Strategy::Group(size) if args.has_group_index() => Some(size),
        _ => None,
    }
}

/// Errors unless each group has `size` of the columns.
fn check(groups: &[i32], size: usize) -> Result<()> {
    let mut counts = vec![0usize; groups.len() / size.max(1)];
    for (col, &group) in groups.iter().enumerate() {
        match usize::try_from(group).ok().and_then(|group| counts.get_mut(group)) {
            Some(count) => *count += 1,
            None => {
                let last = counts.len().saturating_sub(1);
                return Err(Error::parts(format!("{NAME}: group {group} of column {col}, expected 0 to {last}")));
            }
        }
    }
    match counts.iter().position(|&count| count != size) {
        None => Ok(()),
        Some(at) => Err(Error::parts(format!("{NAME}: group {at} has {} columns, expected {size}", counts[at]))),
    }
}
