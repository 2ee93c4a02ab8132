//! The definition of packing: bit by bit.

/// Rows of `cols` codes as rows of `width` bytes.
pub(crate) fn pack(codes: &[u8], cols: usize, bits: u32, width: usize) -> Vec<u8> {
    let bits = bits as usize;
    let mut packed = vec![0; codes.len() / cols.max(1) * width];
    for (at, &code) in codes.iter().enumerate() {
        let (row, first) = (at / cols, at % cols * bits);
        for bit in 0..bits {
            packed[row * width + (first + bit) / 8] |= (code >> bit & 1) << ((first + bit) % 8);
        }
    }
    packed
}

/// Rows of `width` bytes as rows of `cols` codes.
pub(crate) fn unpack(packed: &[u8], width: usize, bits: u32, cols: usize) -> Vec<u8> {
    let bits = bits as usize;
    let rows = packed.len() / width.max(1);
    let code = |at: usize| {
        let (row, first) = (at / cols, at % cols * bits);
        (0..bits).fold(0, |code, bit| {
            let byte = packed[row * width + (first + bit) / 8];
            code | (byte >> ((first + bit) % 8) & 1) << bit
        })
    };
    (0..rows * cols).map(code).collect()
}
