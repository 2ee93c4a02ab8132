//! Values ↔ the elements whose bits are set in a mask.

/// Copies the elements whose bits are set to the start of `values`, which has room for eight more than there are, and
/// returns their number.
pub(super) fn gather<const N: usize>(row: &[[u8; N]], bits: &[u8], values: &mut [[u8; N]]) -> usize {
    let mut next = 0;
    for (eight, &byte) in row.chunks(8).zip(bits) {
        match (eight.first_chunk::<8>(), values[next..].first_chunk_mut::<8>()) {
            // Without branches: each is written, and stays if the next one goes after it.
            (Some(eight), Some(slots)) => {
                let mut at = 0;
                for (i, &element) in eight.iter().enumerate() {
                    slots[at & 7] = element;
                    at += usize::from(byte >> i & 1);
                }
                next += at;
            }
            _ => {
                for (_, &element) in eight.iter().enumerate().filter(|(i, _)| byte >> i & 1 == 1) {
                    values[next] = element;
                    next += 1;
                }
            }
        }
    }
    next
}

/// The opposite of [`gather`] over all rows of a mask. `None` when the values are too few.
pub(super) fn expand<const N: usize>(mask: &[u8], cols: usize, values: &[u8]) -> Option<Vec<u8>> {
    let step = cols.div_ceil(8);
    let values = values.as_chunks::<N>().0;
    let mut dense = vec![[0; N]; mask.len().checked_div(step)?.checked_mul(cols)?];
    let mut next = 0;
    for (row, bits) in dense.chunks_exact_mut(cols).zip(mask.chunks_exact(step)) {
        for (eight, &byte) in row.chunks_mut(8).zip(bits) {
            match (eight.first_chunk_mut::<8>(), values.get(next..).and_then(|rest| rest.first_chunk::<8>())) {
                (Some(eight), Some(ahead)) => {
                    let mut at = 0;
                    for (i, element) in eight.iter_mut().enumerate() {
                        let set = byte >> i & 1;
                        let keep = 0u8.wrapping_sub(set);
                        *element = ahead[at & 7].map(|b| b & keep);
                        at += usize::from(set);
                    }
                    next += at;
                }
                _ => {
                    for (_, element) in eight.iter_mut().enumerate().filter(|(i, _)| byte >> i & 1 == 1) {
                        *element = *values.get(next)?;
                        next += 1;
                    }
                }
            }
        }
    }
    Some(dense.into_flattened())
}
