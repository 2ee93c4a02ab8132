//! Packing, unpacking and decoding of a matrix beside copying it. `cargo bench -p paring-format --bench codes`
//!
//! GB/s count the bytes read and those written, on one thread. The ratio is to copying the codes, one byte each: to memory
//! in use where that is what is measured, in the same pieces, and to fresh memory as a whole where that is.

use std::hint::black_box;
use std::time::Instant;

use paring_format::bits::Packing;
use paring_format::compressed::digest;
use paring_format::{Compressed, Dtype, Element, Grid, ScaleType, Values};

const ROWS: usize = 4096;
const COLS: usize = 4096;
const GROUP: usize = 128;

/// Rows of a piece. A matrix goes by in pieces, each the least of fifteen times: short enough to end before another
/// program gets the processor, while the matrix as a whole is larger than the caches near it.
const PIECE: usize = 128;

/// The least of fifteen times, in seconds; what `f` returns is dropped outside them.
fn seconds<T>(mut f: impl FnMut() -> T) -> f64 {
    by_pieces(1, |_| f())
}

/// The sum over the pieces of the least time of each.
fn by_pieces<T>(pieces: usize, mut f: impl FnMut(usize) -> T) -> f64 {
    let mut least = vec![f64::INFINITY; pieces];
    for _ in 0..15 {
        for (piece, least) in least.iter_mut().enumerate() {
            let start = Instant::now();
            let made = black_box(f(piece));
            *least = least.min(start.elapsed().as_secs_f64());
            drop(made);
        }
    }
    least.iter().sum()
}

fn line(name: &str, bytes: usize, seconds: f64, copy: f64) -> f64 {
    let speed = bytes as f64 / seconds / 1e9;
    println!("{name:<44} {:>8.2} {speed:>8.2} {:>7.2}", 1e3 * seconds, speed / copy);
    speed
}

/// GB/s of copying to memory in use and to fresh memory.
#[derive(Clone, Copy)]
struct CopyRates {
    copy: f64,
    fresh: f64,
}

fn main() {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let bytes: Vec<i8> = (0..ROWS * COLS).map(|_| next() as i8).collect();
    let mut into = vec![0i8; bytes.len()];
    println!("{ROWS} x {COLS}, one thread: milliseconds, GB/s, ratio to copying");
    let piece = PIECE * COLS;
    let copying = by_pieces(ROWS / PIECE, |i| {
        into[i * piece..][..piece].copy_from_slice(black_box(&bytes[i * piece..][..piece]));
    });
    let copied = 2 * bytes.len();
    let rate = |seconds: f64| copied as f64 / seconds / 1e9;
    let name = format!("copy {} MiB by {} KiB, to memory in use", bytes.len() >> 20, piece >> 10);
    let copy = line(&name, copied, copying, rate(copying));
    let whole = seconds(|| into.copy_from_slice(black_box(&bytes)));
    line(&format!("copy {} MiB at once, to memory in use", bytes.len() >> 20), copied, whole, copy);
    let name = format!("copy {} MiB at once, to fresh memory", bytes.len() >> 20);
    let fresh = line(&name, copied, seconds(|| black_box(&bytes).to_vec()), copy);
    let rates = CopyRates { copy, fresh };
    packing(&bytes, &mut into, rates);
    packing_along_rows(&bytes, rates);
    decoding(&bytes, rates);
    floats(&bytes, rates);
}

/// Packing and unpacking of codes, in every width.
fn packing(bytes: &[i8], into: &mut [i8], CopyRates { copy, fresh }: CopyRates) {
    let piece = PIECE * COLS;
    for (bits, padded) in (1..=8).map(|bits| (bits, false)).chain([3, 5, 6, 7].map(|bits| (bits, true))) {
        let packing = Packing::new(bits, padded).expect("a width of 1 to 8");
        let shift = 8 - bits;
        let codes: Vec<i8> = bytes.iter().map(|&code| code >> shift).collect();
        let packed = packing.pack(&codes, COLS).expect("codes in range");
        let total = codes.len() + packed.len();
        let kind = if padded { " padded" } else { "" };
        let mut words = packed.clone();
        let size = PIECE * packed.len() / ROWS;
        let time = by_pieces(ROWS / PIECE, |i| {
            packing.pack_into(black_box(&codes[i * piece..][..piece]), COLS, &mut words[i * size..][..size])
        });
        line(&format!("pack {bits}{kind}, to memory in use"), total, time, copy);
        let time = seconds(|| packing.pack(black_box(&codes), COLS));
        line(&format!("pack {bits}{kind}, to fresh memory"), total, time, fresh);
        let time = by_pieces(ROWS / PIECE, |i| {
            packing.unpack_into(black_box(&words[i * size..][..size]), COLS, &mut into[i * piece..][..piece])
        });
        line(&format!("unpack {bits}{kind}, to memory in use"), total, time, copy);
        let time = seconds(|| packing.unpack(black_box(&words), ROWS, COLS));
        line(&format!("unpack {bits}{kind}, to fresh memory"), total, time, fresh);
        assert_eq!((words, &*into), (packed, &codes[..]), "what is timed is what is tested");
    }
}

/// Packing and unpacking of zero points, whose words run along the rows.
fn packing_along_rows(bytes: &[i8], CopyRates { fresh, .. }: CopyRates) {
    for bits in [3, 4, 8] {
        let packing = Packing::new(bits, false).expect("a width of 1 to 8");
        let (groups, shift) = (COLS / 16, 8 - bits);
        let zeros: Vec<i8> = bytes[..ROWS * groups].iter().map(|&code| code >> shift).collect();
        let packed = packing.pack_columns(&zeros, groups).expect("codes in range");
        let total = zeros.len() + packed.len();
        let time = seconds(|| packing.pack_columns(black_box(&zeros), groups));
        line(&format!("pack {bits}, [{ROWS}, {groups}] along the rows"), total, time, fresh);
        let time = seconds(|| packing.unpack_columns(black_box(&packed), ROWS, groups));
        line(&format!("unpack {bits}, [{ROWS}, {groups}] along the rows"), total, time, fresh);
    }
}

/// Decoding of matrices in pieces, and their digests.
fn decoding(bytes: &[i8], CopyRates { copy, .. }: CopyRates) {
    let piece = PIECE * COLS;
    let grid = |element: Element, dtype: Dtype, group: usize| {
        let scales = (0..PIECE * COLS / group).map(|i| dtype.round(0.01 + (i % 97) as f32 * 1e-4)).collect();
        let zeros = element.int_bits().map(|_| vec![1i8; PIECE * COLS / group]);
        Grid { element, scale_type: ScaleType::Float, ..Grid::int(8, group, scales, zeros) }
    };
    for (element, shift) in
        [(Element::Int(4), 4), (Element::Int(8), 0), (Element::E4m3, 0), (Element::E2m3, 2), (Element::E2m1, 4)]
    {
        for (dtype, group) in [(Dtype::F32, GROUP), (Dtype::F16, GROUP), (Dtype::Bf16, GROUP), (Dtype::Bf16, 16)] {
            let grid = grid(element, dtype, group);
            let matrices: Vec<Compressed> = (bytes.chunks(piece))
                .map(|codes| {
                    let codes = codes.iter().map(|&code| code >> shift).collect();
                    let values = Values::Codes { codes, grid: grid.clone() };
                    Compressed { rows: PIECE, cols: COLS, dtype, values }
                })
                .collect();
            let kind = format!("{element:?}, groups of {group}, {dtype}");
            let time = by_pieces(matrices.len(), |i| black_box(&matrices[i]).to_dense());
            line(&format!("to_dense {kind}"), 5 * ROWS * COLS, time, copy);
            let time = by_pieces(matrices.len(), |i| black_box(&matrices[i]).to_dense_bytes());
            line(&format!("to_dense_bytes {kind}"), (1 + dtype.size()) * ROWS * COLS, time, copy);
            let time = by_pieces(matrices.len(), |i| black_box(&matrices[i]).digest());
            line(&format!("digest {kind}"), ROWS * COLS, time, copy);
        }
    }
}

/// Floats to bytes and back, and the digest of a dense matrix.
fn floats(bytes: &[i8], CopyRates { copy, .. }: CopyRates) {
    let piece = PIECE * COLS;
    let dense: Vec<f32> = bytes.iter().map(|&code| f32::from(code) / 128.0).collect();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let stored = dtype.encode(&dense);
        let (total, size) = (dense.len() * 4 + stored.len(), piece * dtype.size());
        let time = by_pieces(ROWS / PIECE, |i| dtype.encode(black_box(&dense[i * piece..][..piece])));
        line(&format!("floats to {dtype}"), total, time, copy);
        let time = by_pieces(ROWS / PIECE, |i| dtype.decode_f32(black_box(&stored[i * size..][..size])));
        line(&format!("floats from {dtype}"), total, time, copy);
    }
    let time = by_pieces(ROWS / PIECE, |i| digest(PIECE, COLS, black_box(&dense[i * piece..][..piece])));
    line("digest of f32", 4 * ROWS * COLS, time, copy);
}
