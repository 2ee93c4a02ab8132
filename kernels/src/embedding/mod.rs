//! Backward pass of an embedding: rows of gradients are added to the rows of their tokens.

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use crate::gradient::require_cpu;
use crate::with_f32;

/// Positions of one token, each with the token.
type Same<'a> = &'a [(u32, usize)];

/// Adds the rows of `dy [.., dim]` f32 to the rows `ids` of `table [vocab, dim]`, in their order. Errors where there are not as
/// many rows as ids, on an id beyond the table, and where `dy` is not on the CPU.
pub fn add_rows(table: &mut [f32], ids: &[u32], dy: &Tensor) -> Result<()> {
    require_cpu(dy, "an embedding")?;
    let dim = dy.dim(D::Minus1)?;
    let vocab = table.len().checked_div(dim).unwrap_or(0);
    if dy.elem_count() != ids.len() * dim || table.len() != vocab * dim {
        candle_core::bail!("{} tokens with gradients {:?}", ids.len(), dy.shape());
    }
    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
        candle_core::bail!("token {id} in a table of {vocab} rows");
    }
    // Tasks own tokens of the table, and each row gets its gradients in the order of positions.
    let mut order: Vec<(u32, usize)> = ids.iter().copied().enumerate().map(|(at, id)| (id, at)).collect();
    order.sort_unstable();
    with_f32(dy, |dy| {
        let mut rest = table;
        let mut first = 0;
        let mut rows: Vec<(&mut [f32], Same<'_>)> = Vec::new();
        for same in order.chunk_by(|a, b| a.0 == b.0) {
            let id = same[0].0 as usize;
            let (_, after) = std::mem::take(&mut rest).split_at_mut((id - first) * dim);
            let (row, after) = after.split_at_mut(dim);
            rows.push((row, same));
            (rest, first) = (after, id + 1);
        }
        rows.into_par_iter().for_each(|(row, same)| {
            for &(_, at) in same {
                row.iter_mut().zip(&dy[at * dim..][..dim]).for_each(|(sum, &v)| *sum += v);
            }
        });
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn rows_of_the_same_token_add_up() {
        let dy = Tensor::from_vec((1..=10).map(|v| v as f32).collect::<Vec<_>>(), (1, 5, 2), &Device::Cpu).unwrap();
        let mut table = vec![0.5; 8];
        add_rows(&mut table, &[3, 1, 3, 3, 0], &dy).unwrap();
        assert_eq!(table, [9.5, 10.5, 3.5, 4.5, 0.5, 0.5, 13.5, 16.5]);
        assert!(add_rows(&mut table, &[3, 1, 3, 3, 4], &dy).unwrap_err().to_string().contains("token 4"));
        assert!(add_rows(&mut table, &[3, 1, 3, 3], &dy).is_err());
        add_rows(&mut table, &[], &dy.narrow(1, 0, 0).unwrap()).unwrap();
    }
}
