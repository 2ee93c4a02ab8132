use super::*;

/// Pseudo-random numbers.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f64 / (1u64 << 24) as f64
    }
}

fn mask(rows: usize, cols: usize, share: f64) -> Vec<u8> {
    let mut noise = Noise(7);
    (0..rows * cols).map(|_| u8::from(noise.next() < share)).collect()
}

/// Errors unless every element that is opened is closed, in order, and nothing in text or attributes is left bare.
fn well_formed(svg: &str) -> Result<(), String> {
    let mut open = Vec::new();
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        if rest[..start].contains('>') {
            return Err(format!("a bare > in {}", &rest[..start]));
        }
        let Some(len) = rest[start..].find('>') else { return Err("a tag without an end".into()) };
        let tag = &rest[start + 1..start + len];
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        if tag.starts_with('/') {
            if open.pop() != Some(name) {
                return Err(format!("</{name}> closes another element"));
            }
        } else if !tag.matches('"').count().is_multiple_of(2) {
            return Err(format!("quotes in {tag}"));
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        rest = &rest[start + len + 1..];
    }
    for entity in svg.split('&').skip(1) {
        if !["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|known| entity.starts_with(known)) {
            return Err(format!("a bare & before {}", entity.chars().take(9).collect::<String>()));
        }
    }
    if open.is_empty() && rest.trim().is_empty() { Ok(()) } else { Err(format!("left open: {open:?}")) }
}

/// Cells that the paths of a map cover, by shade.
fn covered(map: &str) -> Vec<usize> {
    let path = |d: &str| d.split('h').skip(1).map(|n| n.split('m').next().unwrap().parse::<usize>().unwrap()).sum();
    map.split(" d=\"").skip(1).map(|rest| path(rest.split('"').next().unwrap())).collect()
}

#[test]
fn counts_add_up() {
    for (rows, cols, share) in [(1, 1, 1.0), (7, 5, 0.3), (64, 192, 0.05), (600, 1025, 0.01), (1300, 40, 0.2)] {
        let mask = mask(rows, cols, share);
        let total = mask.iter().filter(|&&m| m == 1).count();
        for limit in CELLS {
            let bins = Bins::new(rows, cols, &mask, limit);
            let down = bins.counts.len() / bins.across;
            assert!(down <= limit && bins.across <= limit, "[{rows}, {cols}] in {limit}");
            assert!(down * bins.height >= rows && (down - 1) * bins.height < rows);
            assert_eq!(bins.counts.iter().sum::<u32>() as usize, total);
            let steps = bins.steps();
            let of_shade = |i: usize| {
                let top = steps.get(i + 1).copied().unwrap_or(u32::MAX);
                bins.counts.iter().filter(|&&n| n >= steps[i] && n < top).count()
            };
            let expected: Vec<usize> = (0..steps.len()).map(of_shade).collect();
            assert_eq!(covered(&bins.map(&steps)), expected, "[{rows}, {cols}] in {limit}");
        }
        assert_eq!(sums(rows, cols, &mask, true).iter().sum::<usize>(), total);
        assert_eq!(sums(rows, cols, &mask, false).iter().sum::<usize>(), total);
        let svg = outliers("a", rows, cols, &mask);
        well_formed(&svg).unwrap();
        assert!(svg.contains(&format!("{rows} × {cols} weights, {total} outliers")), "{svg}");
    }
}

#[test]
fn a_single_outlier_shows_in_a_large_matrix() {
    let (rows, cols) = (2048, 5000);
    let mut mask = vec![0; rows * cols];
    mask[1031 * cols + 4999] = 1;
    let svg = outliers("a", rows, cols, &mask);
    // Cells are 4 x 10 weights, and the only shade is the strongest.
    assert!(svg.contains(&format!("<path class=\"m s{}\" d=\"m499 257h1\"/>", SHADES - 1)), "{svg}");
    assert!(svg.contains("most in output row 1031 (0.020 %) and input column 4999 (0.049 %)"), "{svg}");
}

#[test]
fn files_stay_small() {
    for (rows, cols, share) in [(4096, 4096, 0.01), (1024, 1024, 0.3), (512, 512, 0.5), (8192, 2048, 0.05)] {
        let svg = outliers("model.layers.0.self_attn.q_proj", rows, cols, &mask(rows, cols, share));
        well_formed(&svg).unwrap();
        assert!(svg.len() < 1_000_000, "[{rows}, {cols}] with {share}: {} bytes", svg.len());
    }
}

#[test]
fn names_are_only_text() {
    let hostile = "a<script>alert(\"1\")</script>&'\u{0}\u{1b}]\u{ffff}";
    let svg = outliers(hostile, 4, 4, &[1; 16]);
    well_formed(&svg).unwrap();
    assert!(!svg.contains("<script") && !svg.contains('\u{0}') && svg.contains("a&lt;script&gt;alert(&quot;1&quot;)"));
    let long = outliers(&"layer".repeat(100), 4, 4, &[1; 16]);
    assert!(long.contains('…'));
    // Nothing to draw is no reason to fail.
    for (rows, cols) in [(0, 0), (0, 3), (3, 0), (2, 2)] {
        well_formed(&outliers("empty", rows, cols, &vec![0; rows * cols])).unwrap();
    }
}

#[test]
fn ticks_are_round() {
    for (length, most, expected) in [
        (1, 9, "0"),
        (8, 9, "0 1 2 3 4 5 6 7"),
        (48, 9, "0 10 20 30 40"),
        (64, 14, "0 10 20 30 40 50 60"),
        (128, 3, "0 50 100"),
        (4096, 8, "0 1000 2000 3000 4000"),
        (7, 0, "0"),
    ] {
        let text = ticks(length, most).map(|t| t.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(text, expected);
    }
    assert_eq!(ticks(usize::MAX, 8).count(), 4);
}
