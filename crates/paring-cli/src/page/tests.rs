//! Pages of a golden report: well-formed, whole, at the coordinates that its numbers give, and safe to open.

use std::collections::BTreeSet;

use paring::report::Report;
use paring::report::difference::Difference;

use super::chart::{Blocks, Scale};
use super::xml::Element;
use super::{STYLE, of, of_two};

fn golden() -> Report {
    serde_json::from_str(include_str!("../../../../tests/golden/report.json")).unwrap()
}

fn parsed(page: &str) -> Element {
    let root = Element::parse(page).unwrap_or_else(|e| panic!("{e}"));
    let mut ids = BTreeSet::new();
    for element in root.all() {
        if let Some(id) = element.get("id") {
            assert!(ids.insert(id), "{id} twice");
        }
    }
    for element in root.all() {
        let name = element.name.as_str();
        let refers = ["src", "href", "srcset", "data"].iter().any(|key| element.get(key).is_some());
        assert!(!refers && !["script", "link", "iframe", "object", "img"].contains(&name), "{name} asks for something");
        assert!(element.attributes.iter().all(|(key, _)| !key.starts_with("on")), "{name} has a script");
        if element.get("role") == Some("img") {
            assert!(["title", "desc"].iter().all(|child| element.child(child).is_some_and(|c| !c.text().is_empty())));
            let labels = element.get("aria-labelledby").unwrap();
            assert!(labels.split(' ').all(|id| ids.contains(id)), "{labels}");
        }
        if name == "table" {
            assert!(element.all().iter().any(|e| e.get("scope") == Some("col")), "a table without a header");
        }
    }
    assert!(!STYLE.contains("url(") && !STYLE.contains("@import") && !STYLE.contains('<'));
    root
}

fn headings(root: &Element) -> Vec<String> {
    root.all().iter().filter(|e| e.name == "h2").map(|e| e.text()).collect()
}

/// The figure whose drawing is titled so.
fn figure<'a>(root: &'a Element, title: &str) -> &'a Element {
    let titled = |e: &&Element| e.name == "figure" && e.all().iter().any(|e| e.name == "title" && e.text() == title);
    root.all().into_iter().find(titled).unwrap_or_else(|| panic!("no figure of {title}"))
}

/// A drawn thing by the title that it shows.
fn titled<'a>(figure: &'a Element, name: &str, title: &str) -> &'a Element {
    let all = figure.all();
    let found: Vec<_> =
        all.into_iter().filter(|e| e.name == name && e.child("title").is_some_and(|t| t.text() == title)).collect();
    assert_eq!(found.len(), 1, "{name} {title}");
    found[0]
}

#[test]
fn a_page_has_all_sections() {
    let root = parsed(&of(&golden()));
    let want = [
        "Command",
        "Plan",
        "Environment",
        "Time and memory",
        "Error over depth",
        "Bits and zeros",
        "Outliers",
        "Size",
        "Perplexity",
        "Notes and repairs",
        "Layers",
    ];
    assert_eq!(headings(&root), want);
    let cards: Vec<String> = root.all().iter().filter(|e| e.name == "dd").map(|e| e.text()).collect();
    let want = [
        "1.00 MB25 % of 4.00 MB",
        "4.50from 16.00",
        "12.5 %of the weights",
        "1.6 %of the weights, kept exact",
        "8.500from 8.000, +0.500",
        "0.03220.100 at most",
        "1 h 06 min5 layers",
        "512 MiBand 20.0 GiB on the GPU at most",
    ];
    assert_eq!(cards, want);
    let text = root.text();
    for part in [
        "recipe.rounding.weights.num_bits",
        "ignorere:.*head a&b",
        "overrides.0.targetsre:.*down_proj",
        "cuda:0 (A \"card\" of 80 GB)",
        "8 of 16 cores",
        "128.0 GiB",
        "Of 4 windows of 2048 tokens of wiki<text>2.",
        "forward2000.0080 %2512",
        "write500.0020 %256",
        "1 layer rounded to nearest instead",
        "1 layer repaired",
        "All 5 layers",
        "q_proj30.003670.01000.0140",
        "up_proj20.07500.1000.100",
        "Linears of the blocks2.90 MB400 kB14 %",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains("true_sequential") && !text.contains("include"), "what was not chosen is not shown");
}

#[test]
fn what_comes_from_outside_is_text() {
    let report = golden();
    let page = of(&report);
    assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains("wiki<text>"));
    let root = parsed(&page);
    let all = root.all();
    let text = |name: &str| all.iter().find(|e| e.name == name).unwrap().text();
    assert_eq!(text("title"), "spqr of org/<script>alert(1)</script>");
    assert_eq!(text("h1"), "spqr of org/<script>alert(1)</script>");
    assert_eq!(text("pre"), r#"paring quantize 'org/<script>alert(1)</script>' 'it'\''s mine.txt' --wbits 3"#);
    let notes = all.iter().find(|e| e.get("class") == Some("notes")).unwrap();
    assert_eq!(notes.text().trim(), report.notes[0]);
}

#[test]
fn points_lie_where_their_numbers_say() {
    let root = parsed(&of(&golden()));
    let errors = figure(&root, "Error of each layer over depth");
    assert!(errors.text().contains("Logarithmic scale; rings on its lower edge are 0."));
    // Three blocks; from 0.001 to 0.1 on a logarithmic scale.
    for (layer, error, x, y) in [
        ("layers.0.q_proj", "0.00100", "16.67%", "100.00%"),
        ("layers.0.up_proj", "0.100", "16.67%", "0.00%"),
        ("layers.1.q_proj", "0.0100", "50.00%", "50.00%"),
        ("layers.1.up_proj", "0.0500", "50.00%", "15.05%"),
        ("layers.2.q_proj", "0", "83.33%", "100.00%"),
    ] {
        let point = titled(errors, "circle", &format!("{layer}: {error} error"));
        assert_eq!((point.get("cx"), point.get("cy")), (Some(x), Some(y)), "{layer}");
        assert_eq!(point.get("class") == Some("dot zero"), error == "0");
    }
    let lines: Vec<_> = errors.all().iter().filter(|e| e.name == "polyline").map(|e| e.get("points")).collect();
    assert_eq!(lines, [Some("16.67,100.00 50.00,50.00 83.33,100.00"), Some("16.67,0.00 50.00,15.05")]);
    // 0 over 0 is no ratio; the others from 0.25 to 1.
    let ratios = figure(&root, "Error over that of plain rounding");
    let circles = ratios.all().iter().filter(|e| e.name == "circle").count();
    let mark = ratios.all().into_iter().find(|e| e.get("class") == Some("mark")).and_then(|e| e.get("y1"));
    assert_eq!((circles, mark), (4, Some("0.00%")));
    for (layer, ratio, y) in [("layers.0.q_proj", "0.500", "50.00%"), ("layers.1.q_proj", "0.250", "75.00%")] {
        let point = titled(ratios, "circle", &format!("{layer}: {ratio} times the error of plain rounding"));
        assert_eq!(point.get("cy"), Some(y));
    }
}

#[test]
fn cells_are_as_dark_as_their_numbers() {
    let root = parsed(&of(&golden()));
    let zeros = figure(&root, "Share of zeros");
    let cells = zeros.all().iter().filter(|e| e.get("class") == Some("cell") && e.get("x").is_some()).count();
    assert_eq!(cells, 5, "layers.2.up_proj was not compressed");
    // From 0 to 50 %, between the faintest and the darkest shade that numbers can be read on.
    for (layer, words, x, y, opacity) in [
        ("layers.0.q_proj", "0.0 %", "0.000%", "0", "0.160"),
        ("layers.0.up_proj", "25.0 %", "0.000%", "22", "0.330"),
        ("layers.1.up_proj", "50.0 %", "33.333%", "22", "0.500"),
        ("layers.2.q_proj", "0.0 %", "66.667%", "0", "0.160"),
    ] {
        let cell = titled(zeros, "rect", &format!("{layer}: {words}"));
        let place = (cell.get("x"), cell.get("y"), cell.get("fill-opacity"));
        assert_eq!(place, (Some(x), Some(y), Some(opacity)), "{layer}");
    }
    // 256 of 4096 weights.
    titled(figure(&root, "Share of outliers"), "rect", "layers.2.q_proj: 6.25 %");
    assert!(figure(&root, "Bits on disk per weight").text().contains("from 4.00 bits to 5.00 bits"));
}

#[test]
fn what_there_is_not_is_not_shown() {
    let mut report = golden();
    report.perplexity = None;
    report.notes.clear();
    report.command.clear();
    report.stages.clear();
    report.place.peak_vram_mib = None;
    report.outlier_share = 0.0;
    for layer in &mut report.layers {
        (layer.error, layer.baseline_error, layer.damp, layer.outliers, layer.dead) = (None, None, None, 0, 0);
        (layer.fallback, layer.sparsity, layer.format) = (false, 0.5, "dense".into());
        layer.repairs.clear();
        layer.kind = "fc".into();
    }
    let root = parsed(&of(&report));
    assert_eq!(headings(&root), ["Plan", "Environment", "Zeros", "Size", "Layers"]);
    assert!(figure(&root, "Share of zeros").text().contains("50.0 % in all layers"));
    report.layers.iter_mut().for_each(|layer| layer.sparsity = 0.0);
    assert_eq!(headings(&parsed(&of(&report))), ["Plan", "Environment", "Size", "Layers"]);
    report.layers.clear();
    assert_eq!(headings(&parsed(&of(&report))), ["Plan", "Environment", "Size"]);
}

#[test]
fn two_runs_are_one_page() {
    let first = golden();
    let mut second = first.clone();
    second.plan["recipe"]["method"] = "gptq".into();
    second.perplexity = None;
    second.layers[0].error = Some(0.0005);
    second.layers[2].error = Some(0.02);
    second.layers.remove(4);
    let root = parsed(&of_two(&first, &second, &Difference::between(&first, &second)));
    assert_eq!(
        headings(&root),
        ["Plan", "Environment", "Numbers", "Error", "Time by stage", "Layers that differ most"]
    );
    let text = root.text();
    for part in [
        "recipe.methodspqrgptq",
        "The same in both.",
        "perplexity8.500–",
        "layers.0.q_proj0.001000.0005000.500",
        "layers.1.q_proj0.01000.02002.000",
        "1 layer that only A compressed",
        "q_proj0.005500.0103+0.004751.864",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    // From 0.5 to 2, on a scale from 0 to 2.
    let chart = figure(&root, "Error of B over that of A, by layer");
    let point = titled(chart, "circle", "layers.1.q_proj: 2.000 times the error of A");
    assert_eq!((point.get("cx"), point.get("cy")), (Some("75.00%"), Some("0.00%")));
    let same = parsed(&of_two(&first, &first, &Difference::between(&first, &first)));
    assert!(same.text().contains("No layer that both compressed differs"));
}

#[test]
fn scales_are_round() {
    let scale = |values: &[f64]| Scale::of(values.iter().copied());
    let even = scale(&[0.03, 0.07]);
    assert_eq!((even.at(0.0), even.at(0.04), even.at(0.08)), (100.0, 50.0, 0.0));
    assert_eq!(
        even.ticks().iter().map(|t| format!("{t:.2}")).collect::<Vec<_>>(),
        ["0.00", "0.02", "0.04", "0.06", "0.08"]
    );
    let steep = scale(&[0.0002, 0.3]);
    assert_eq!(steep.ticks().len(), 3, "{:?}", steep.ticks());
    assert!((steep.at(0.01) - 50.0).abs() < 1e-9 && steep.at(0.0) == 100.0, "from 0.0002 to 0.5");
    assert_eq!(scale(&[1.0, 10.0]).ticks(), [1.0, 2.0, 5.0, 10.0]);
    for nothing in [&[][..], &[0.0]] {
        assert!(scale(nothing).at(0.0) == 100.0 && scale(nothing).ticks().len() == 6);
    }
    let blocks = Blocks::of([8, 23].into_iter());
    assert_eq!((blocks.first, blocks.count, blocks.middle(8)), (8, 16, 3.125));
    assert!(
        blocks.axis().contains(">8</span>") && blocks.axis().contains(">10</span>") && !blocks.axis().contains(">9<")
    );
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
        STYLE.match_indices(":root{").map(|(at, _)| &STYLE[at..at + STYLE[at..].find('}').unwrap()]).collect();
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
        for line in 0..8 {
            let found = contrast(colour(&format!("--k{line}")), colour("--bg"));
            assert!(found >= 3.0, "--k{line}: {found:.2}");
        }
    }
}
