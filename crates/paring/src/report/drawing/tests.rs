//! Scales hold what they are made for, labels are of one kind, and the picture of errors is whole and safe.

use super::{Blocks, PALETTE, Scale, error_svg};
use crate::report::Report;

fn golden() -> Report {
    serde_json::from_str(include_str!("../../../../../tests/golden/report.json")).unwrap()
}

fn scale(values: &[f64]) -> Scale {
    Scale::of(values.iter().copied())
}

fn labels(scale: &Scale) -> Vec<String> {
    scale.labels().into_iter().map(|(_, text)| text).collect()
}

#[test]
fn scales_are_round() {
    let even = scale(&[0.03, 0.07]);
    assert_eq!((even.at(0.0), even.at(0.04), even.at(0.08)), (100.0, 50.0, 0.0));
    assert_eq!(labels(&even), ["0.00", "0.02", "0.04", "0.06", "0.08"]);
    let steep = scale(&[0.0002, 0.3]);
    assert_eq!(labels(&steep), ["0.0001", "0.001", "0.01", "0.1", "1"]);
    assert!((steep.at(0.01) - 50.0).abs() < 1e-9 && steep.at(0.0) == 100.0);
    assert_eq!(labels(&scale(&[1.0, 10.0])), ["1", "2", "5", "10"]);
    for nothing in [&[][..], &[0.0]] {
        assert!(scale(nothing).at(0.0) == 100.0 && scale(nothing).labels().len() == 6);
    }
    let blocks = Blocks::of([8, 23].into_iter());
    assert_eq!((blocks.first, blocks.count, blocks.middle(8)), (8, 16, 3.125));
    assert_eq!(blocks.ticks().collect::<Vec<_>>(), [8, 10, 12, 14, 16, 18, 20, 22]);
}

#[test]
fn labels_cover_the_values_in_one_format() {
    for (values, want) in [
        // Errors of a run whose largest ones were above the last label, and whose labels mixed two formats.
        (&[2.2e-5, 0.0041][..], &["2×10⁻⁵", "5×10⁻⁵", "10⁻⁴", "2×10⁻⁴", "5×10⁻⁴", "10⁻³", "2×10⁻³", "5×10⁻³"][..]),
        (&[2.2e-6, 0.0041], &["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²"]),
        (&[0.0001, 0.001], &["0.0001", "0.0002", "0.0005", "0.001"]),
        (&[0.00005, 0.0005], &["5×10⁻⁵", "10⁻⁴", "2×10⁻⁴", "5×10⁻⁴"]),
        // Ratios that are all far below 1, and the line at 1.
        (&[0.02, 0.04, 1.0], &["0.02", "0.05", "0.1", "0.2", "0.5", "1"]),
        (&[30_000.0, 80_000.0], &["0", "20000", "40000", "60000", "80000"]),
        (&[3e5, 8e5], &["0", "2×10⁵", "4×10⁵", "6×10⁵", "8×10⁵"]),
        (&[0.00002, 0.00004], &["0", "10⁻⁵", "2×10⁻⁵", "3×10⁻⁵", "4×10⁻⁵"]),
        (&[1e-320, 1e308], &["10⁻³⁶", "10⁻²⁷", "10⁻¹⁸", "10⁻⁹", "10⁰", "10⁹", "10¹⁸", "10²⁷", "10³⁶"]),
    ] {
        let scale = scale(values);
        assert_eq!(labels(&scale), want, "{values:?}");
        let at: Vec<f64> = scale.labels().into_iter().map(|(at, _)| at).collect();
        assert!(at[0] == 100.0 && at[at.len() - 1] == 0.0, "the ends are labelled: {at:?}");
    }
}

#[test]
fn scales_around_values_leave_little_out() {
    let around = |values: &[f64]| Scale::around(values.iter().copied());
    assert_eq!(labels(&around(&[4.71, 5.19])), ["4.7", "4.8", "4.9", "5.0", "5.1", "5.2"]);
    assert_eq!(labels(&around(&[2.57, 8.75])), ["2", "4", "6", "8", "10"]);
    assert_eq!(labels(&around(&[2.0, 20.0])), ["2", "5", "10", "20"], "logarithmic");
    let alike = around(&[4.7251, 4.7252]);
    assert!(alike.at(4.7251) > 20.0 && alike.at(4.7252) < 80.0, "in the middle: {:?}", labels(&alike));
    for nothing in [&[][..], &[0.0], &[f64::NAN, -1.0]] {
        assert!(around(nothing).labels().len() >= 2, "{nothing:?}");
    }
}

#[test]
fn the_picture_of_errors_stands_alone() {
    let mut report = golden();
    report.layers[0].kind = "a\"<b>&".repeat(20);
    report.layers[0].name = "x</title><script>".into();
    let svg = error_svg(&report).unwrap();
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("@media(prefers-color-scheme:dark)") && svg.contains("<rect class=\"p\" width=\"100%\""));
    for foreign in ["<script", "<b>", "url(", "href", "@import"] {
        assert!(!svg.contains(foreign), "{foreign}");
    }
    let measured = report.layers.iter().filter(|layer| layer.error.is_some()).count();
    assert_eq!(svg.matches("<circle ").count(), measured);
    assert!(svg.contains("<title>layers.1.up_proj: 0.0500</title>"), "{svg}");
    // Labels and lines of the scale, and the blocks.
    for text in [">0.001<", ">0.1<", ">block<", ">up_proj<"] {
        assert!(svg.contains(text), "{text} in {svg}");
    }
    report.layers.iter_mut().for_each(|layer| layer.error = None);
    assert_eq!(error_svg(&report), None, "no errors, no picture");
}

/// The contrast of two colours `#rrggbb` as WCAG defines it.
fn contrast(a: &str, b: &str) -> f64 {
    let luminance = |colour: &str| {
        let colour = colour.trim_start_matches('#');
        let long = if colour.len() == 3 { colour.chars().flat_map(|c| [c, c]).collect() } else { colour.to_string() };
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&long[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.03928 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(0) + 0.7152 * channel(2) + 0.0722 * channel(4)
    };
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn colours_can_be_told_from_the_background() {
    let themes: Vec<&str> =
        PALETTE.match_indices(":root{").map(|(at, _)| &PALETTE[at..at + PALETTE[at..].find('}').unwrap()]).collect();
    assert_eq!(themes.len(), 2, "light and dark");
    for theme in themes {
        let colour = |name: &str| {
            let at = theme.find(&format!("{name}:#")).unwrap_or_else(|| panic!("no {name}"));
            theme[at + name.len() + 1..].split([';', '\n']).next().unwrap()
        };
        for (text, least) in [("--text", 7.0), ("--dim", 4.5), ("--accent", 4.5), ("--old", 3.0)] {
            let found = contrast(colour(text), colour("--bg"));
            assert!(found >= least, "{text}: {found:.2}");
        }
        assert!(contrast(colour("--text"), colour("--soft")) >= 4.5);
        for line in 0..super::COLOURS {
            let found = contrast(colour(&format!("--k{line}")), colour("--bg"));
            assert!(found >= 3.0, "--k{line}: {found:.2}");
        }
    }
}
