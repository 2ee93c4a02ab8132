use super::*;

/// A text of ranges of a stream of tokens, with so many after its context.
fn text(parts: &[Range<u32>], after: usize) -> Text {
    let tokens: Vec<u32> = parts.iter().cloned().flatten().collect();
    let first = tokens.len() - after - 1;
    Text { tokens, first }
}

fn sizes(forest: &Forest) -> Vec<usize> {
    forest.pieces.iter().map(|piece| piece.tokens.len()).collect()
}

/// Checks that pieces are read as their texts, and come after their parents.
fn check(forest: &Forest, texts: &[Text]) {
    for (number, text) in texts.iter().take(forest.texts()).enumerate() {
        for (position, &token) in text.tokens.iter().enumerate() {
            let (piece, at) = forest.find(number, position).unwrap();
            assert_eq!(forest.pieces[piece].tokens[at], token);
            let (batch, row) = forest.pieces[piece].place;
            let (other, same) = forest.text_of(batch, row + at).unwrap();
            assert!(
                other <= number && same == position && texts[other].tokens[..=position] == text.tokens[..=position]
            );
        }
        assert_eq!(forest.find(number, text.tokens.len()), None);
    }
    assert_eq!(forest.find(forest.texts(), 0), None);
    for (at, batch) in forest.batches.iter().enumerate() {
        let mut row = 0;
        for (level, numbers) in batch.levels.iter().enumerate() {
            assert!(!numbers.is_empty());
            for &number in numbers {
                let piece = &forest.pieces[number];
                assert_eq!(piece.place, (at, row));
                row += piece.tokens.len();
                let Some(parent) = piece.parent.map(|parent| &forest.pieces[parent]) else { continue };
                assert_eq!(parent.span().end, piece.start);
                assert!(parent.last_use >= Some(at) && parent.place.0 <= at);
                let above = |numbers: &Vec<usize>| numbers.iter().any(|&other| Some(other) == piece.parent);
                assert!(parent.place.0 < at || batch.levels[..level].iter().any(above));
            }
        }
        assert_eq!(row, batch.tokens);
        assert!(row <= BATCH_TOKENS);
    }
}

#[test]
fn choices_share_their_context() {
    let texts = [
        text(&[0..10, 20..23], 3),
        text(&[0..10, 30..35], 5),
        text(&[0..4, 4..10], 0),
        text(&[40..50, 60..61], 1),
        text(&[0..10, 60..61], 1),
    ];
    let forest = Forest::grow(&texts, usize::MAX);
    // The third text's only prediction is after the context; the last one comes too late to share it.
    assert_eq!(sizes(&forest), [10, 3, 5, 10, 1, 10, 1]);
    assert_eq!((forest.batches.len(), forest.batches[0].levels.len()), (1, 2));
    check(&forest, &texts);
    let first = Forest::grow(&texts, 18);
    assert_eq!((first.texts(), sizes(&first)), (3, vec![10, 3, 5]));
    assert_eq!(Forest::grow(&texts, 0).texts(), 3);
    assert_eq!(Forest::grow(&[], 100).texts(), 0);
}

#[test]
fn documents_share_examples() {
    // Documents with as many examples, of which some begin alike, and then others.
    let with = |examples: Range<u32>, begin: u32| {
        [0, 1].map(|choice| text(&[examples.clone(), begin..begin + 9, 5000 + choice..5003], 3 - choice as usize))
    };
    let texts: Vec<Text> = [with(0..100, 200), with(0..100, 203), with(0..103, 300), with(1000..1090, 400)].concat();
    let forest = Forest::grow(&texts, usize::MAX);
    check(&forest, &texts);
    let roots: Vec<usize> = (0..forest.pieces.len()).filter(|&i| forest.pieces[i].parent.is_none()).collect();
    assert_eq!(roots.iter().map(|&i| forest.pieces[i].tokens.len()).collect::<Vec<_>>(), [100, 99]);
    assert_eq!(forest.batches[0].levels.len(), 3);
    // A limit is reached within a family, whose rest begins anew.
    let first = Forest::grow(&texts, 110);
    assert_eq!(first.texts(), 2);
    check(&first, &texts);
    let rest = Forest::grow(&texts[2..], usize::MAX);
    check(&rest, &texts[2..]);
}

#[test]
fn long_texts_are_cut_and_batches_are_full() {
    let long = 2 * BATCH_TOKENS as u32 + 5;
    let mut texts = vec![text(&[0..long, 0..4], 4), text(&[0..long, 0..7], 7)];
    texts.extend((0..400).map(|i| text(&[i..i + 8, i + 8..i + 11], 3)));
    let forest = Forest::grow(&texts, usize::MAX);
    check(&forest, &texts);
    assert_eq!(sizes(&forest)[..5], [BATCH_TOKENS, BATCH_TOKENS, 5, 4, 7]);
    assert_eq!(forest.texts(), texts.len());
    let full: usize = forest.batches.iter().map(|batch| batch.tokens).sum();
    assert_eq!(full, sizes(&forest).iter().sum::<usize>());
    assert!(forest.batches.len() < full / BATCH_TOKENS + 3, "{} batches", forest.batches.len());
}
