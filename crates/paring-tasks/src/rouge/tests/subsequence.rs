//! Rows of bits against the table that they stand for.

use crate::rouge::subsequence::Subsequence;

/// Lengths of longest common subsequences of all beginnings.
fn table(reference: &[u32], prediction: &[u32]) -> Vec<Vec<usize>> {
    let mut table = vec![vec![0; prediction.len() + 1]; reference.len() + 1];
    for (i, a) in reference.iter().enumerate() {
        for (j, b) in prediction.iter().enumerate() {
            table[i + 1][j + 1] = if a == b { table[i][j] + 1 } else { table[i][j + 1].max(table[i + 1][j]) };
        }
    }
    table
}

/// The positions on the path that rouge_score follows.
fn path(reference: &[u32], prediction: &[u32]) -> Vec<bool> {
    let table = table(reference, prediction);
    let mut marks = vec![false; reference.len()];
    let (mut i, mut j) = (reference.len(), prediction.len());
    while i > 0 && j > 0 {
        if reference[i - 1] == prediction[j - 1] {
            (i, j) = (i - 1, j - 1);
            marks[i] = true;
        } else if table[i][j - 1] > table[i - 1][j] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
    marks
}

/// Tokens below `different`, from a generator of Knuth's constants.
fn drawn(seed: &mut u64, length: usize, different: u64) -> Vec<u32> {
    let mut next = || {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((*seed >> 33) % different) as u32
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn lengths_and_paths_are_those_of_the_table() {
    let mut seed = 1;
    // Ends of words of 64 bits, and texts whose carries run through several of them.
    for (m, n) in [(0, 3), (3, 0), (1, 1), (5, 40), (63, 64), (64, 63), (65, 130), (128, 20), (200, 300), (300, 31)] {
        for different in [1, 2, 3, 30, 1000] {
            let (reference, prediction) = (drawn(&mut seed, m, different), drawn(&mut seed, n, different));
            let expected = table(&reference, &prediction)[m][n];
            // Few rows: the others are computed anew.
            for rows in [1, 2, 7, 1000] {
                let subsequence = Subsequence::holding(&reference, rows);
                let case = format!("{m} by {n} of {different}, {rows} rows");
                assert_eq!(subsequence.length(&prediction), expected, "{case}");
                let mut marks = vec![false; m];
                subsequence.mark(&prediction, &mut marks);
                assert_eq!(marks, path(&reference, &prediction), "{case}");
            }
        }
    }
}

/// A table of these would have 800 million cells.
#[test]
fn long_texts_take_little_memory() {
    let mut seed = 7;
    let reference = drawn(&mut seed, 20_000, 10_000);
    let mut prediction = reference.clone();
    prediction.reverse();
    prediction.extend(&reference);
    let subsequence = Subsequence::of(&reference);
    assert_eq!(subsequence.length(&prediction), reference.len());
    let mut marks = vec![false; reference.len()];
    subsequence.mark(&prediction, &mut marks);
    assert!(marks.iter().all(|is_marked| *is_marked));
}
