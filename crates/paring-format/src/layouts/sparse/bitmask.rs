//! The mask of `sparse-bitmask`: the weights that are not zero.

use crate::Dtype;

/// The bits of an element that are not its sign; an integer has none.
fn magnitude(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::I8 => 0xff,
        Dtype::F8E4M3 => 0x7f,
        Dtype::F16 | Dtype::Bf16 => 0x7fff,
        _ => 0x7fff_ffff,
    }
}

/// An element of at most four bytes as a number.
pub(super) fn raw<const N: usize>(element: [u8; N]) -> u32 {
    let mut bytes = [0; 4];
    bytes[..N].copy_from_slice(&element);
    u32::from_le_bytes(bytes)
}

/// Tells whether the element of these bytes is zero, with or without a sign.
pub(super) fn is_zero(element: &[u8], dtype: Dtype) -> bool {
    let bits = element.iter().rev().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte));
    bits & magnitude(dtype) == 0
}

/// Sets the bits of the elements of a row that are not zero; `bits` are all 0.
pub(super) fn mask<const N: usize>(row: &[[u8; N]], dtype: Dtype, bits: &mut [u8]) {
    let magnitude = magnitude(dtype);
    for (eight, byte) in row.chunks(8).zip(bits) {
        let each = eight.iter().enumerate();
        *byte = each.fold(0, |byte, (i, &element)| byte | u8::from(raw(element) & magnitude != 0) << i);
    }
}
