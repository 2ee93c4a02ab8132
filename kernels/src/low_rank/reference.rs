//! The definition, element by element.

pub fn change(a: &[f32], b: &[f32], scale: f32, (rank, cols): (usize, usize)) -> Vec<f32> {
    let element = |(row, col): (usize, usize)| {
        let sum = (0..rank).fold(0f32, |sum, k| b[row * rank + k].mul_add(a[k * cols + col], sum));
        sum * scale
    };
    (0..b.len() / rank).flat_map(|row| (0..cols).map(move |col| (row, col))).map(element).collect()
}
