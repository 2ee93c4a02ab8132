//! Pages of a golden report: well-formed, whole, at the coordinates that its numbers give, and safe to open.

use std::collections::BTreeSet;

use paring::report::comparison::Comparison;
use paring::report::difference::Difference;
use paring::report::{LayerReport, PerplexityReport, Report};

use super::xml::Element;
use super::{SCRIPT, STYLE, of, of_many};

fn golden() -> Report {
    serde_json::from_str(include_str!("../../../../tests/golden/report.json")).unwrap()
}

/// A page as its elements, once it is known to ask for nothing, to run its own script alone, and to be whole.
fn parsed(page: &str) -> Element {
    let root = Element::parse(page).unwrap_or_else(|e| panic!("{e}"));
    let mut ids = BTreeSet::new();
    for element in root.all() {
        if let Some(id) = element.get("id") {
            assert!(ids.insert(id), "{id} twice");
        }
    }
    let scripts: Vec<String> = root.all().iter().filter(|e| e.name == "script").map(|e| e.text()).collect();
    assert_eq!(scripts, [format!("\n{SCRIPT}")]);
    for element in root.all() {
        let name = element.name.as_str();
        let refers = ["src", "srcset", "data"].iter().any(|key| element.get(key).is_some());
        assert!(!refers && !["link", "iframe", "object", "img"].contains(&name), "{name} asks for something");
        assert!(element.attributes.iter().all(|(key, _)| !key.starts_with("on")), "{name} has a script");
        if let Some(link) = element.get("href") {
            assert!(link.strip_prefix('#').is_some_and(|id| ids.contains(id)), "{link} is nowhere in the page");
        }
        if name == "svg" && element.get("role").is_some() {
            assert!(["title", "desc"].iter().all(|child| element.child(child).is_some_and(|c| !c.text().is_empty())));
            let labels = element.get("aria-labelledby").unwrap();
            assert!(labels.split(' ').all(|id| ids.contains(id)), "{labels}");
        }
        if name == "table" {
            assert!(element.all().iter().any(|e| e.get("scope") == Some("col")), "a table without a header");
        }
    }
    assert!(!STYLE.contains("url(") && !STYLE.contains("@import") && !STYLE.contains('<'));
    assert!(!SCRIPT.contains(['<', '&']) && !["eval", "innerHTML", "fetch", "http"].iter().any(|w| SCRIPT.contains(w)));
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

/// The circle that shows a layer, by the title of its link.
fn dot<'a>(figure: &'a Element, title: &str) -> &'a Element {
    let all = figure.all();
    let mut points = all.into_iter().filter(|e| e.get("class") == Some("point"));
    let point =
        points.find(|e| e.child("title").is_some_and(|t| t.text() == title)).unwrap_or_else(|| panic!("{title}"));
    let dots: Vec<_> =
        point.all().into_iter().filter(|e| e.get("class").is_some_and(|c| c.starts_with("dot"))).collect();
    assert_eq!(dots.len(), 1, "{title}");
    dots[0]
}

/// The golden report of a run that prunes too.
fn pruned() -> Report {
    let mut report = golden();
    report.plan["recipe"]["pattern"] = serde_json::json!({"nof_m": {"keep": 2, "of": 4}});
    report
}

#[test]
fn a_page_has_all_sections() {
    let root = parsed(&of(&pruned()));
    let want = [
        "Notes",
        "Size",
        "Perplexity",
        "Error by layer",
        "Bits and zeros by layer",
        "Outliers",
        "Layers",
        "Plan",
        "Time and memory",
        "Environment",
    ];
    assert_eq!(headings(&root), want);
    let cards: Vec<String> = root.all().iter().filter(|e| e.name == "dd").map(|e| e.text()).collect();
    let want = [
        "1.00 MB25 % of 4.00 MB",
        "4.50from 16.00, in 5 layers",
        "12.5 %of these weights",
        "1.6 %of these weights, kept exact",
        "8.500from 8.000 (+0.500)",
        "0.0322largest 0.100",
        "1 h 7 minon cuda:0 (A \"card\" of 80 GB)",
        "512 MiBpeak, and 20.0 GiB on the GPU",
    ];
    assert_eq!(cards, want);
    let cards = root.all().into_iter().find(|e| e.get("class") == Some("cards")).and_then(|e| e.get("style"));
    assert_eq!(cards, Some("--across:4"), "two full rows");
    let text = root.text();
    for part in [
        "31 Jan 2026, 23:59 UTC · 1 h 7 min · out & co/",
        "--methodspqr",
        "--pattern2:4",
        "--percdamp0.01",
        "--ignorere:.*head\n--ignorea&b",
        "recipe.rounding.weights.num_bits3",
        "overrides.0.targetsre:.*down_proj",
        "device",
        "8 of 16 cores",
        "128.0 GiB",
        "8.000 before and 8.500 after (+0.500, +6.2 %), on 4 windows of 2048 tokens of wiki<text>2.",
        "forward2000.0080 %2512",
        "write500.0020 %256",
        "1 layer stored with magnitude pruning",
        "1 layer repaired",
        "up_proj20.07500.1000.100\nq_proj30.003670.01000.0140",
        "Linears of the blocks2.90 MB400 kB14 %",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("--true-sequential") && !text.contains("--include"), "what was not chosen is not shown");
}

#[test]
fn what_comes_from_outside_is_text() {
    let report = golden();
    let page = of(&report);
    assert!(!page.contains("<script>alert") && !page.contains("<b>patience") && !page.contains("wiki<text>"));
    let root = parsed(&page);
    let all = root.all();
    let text = |name: &str| all.iter().find(|e| e.name == name).unwrap().text();
    assert_eq!(text("title"), "org/<script>alert(1)</script>, SpQR");
    assert_eq!(text("h1"), "org/<script>alert(1)</script>, SpQR");
    assert_eq!(text("pre"), r#"paring quantize 'org/<script>alert(1)</script>' 'it'\''s mine.txt' --wbits 3"#);
    let notes = all.iter().find(|e| e.get("class") == Some("notes")).unwrap();
    assert_eq!(notes.text().trim(), report.notes[0]);
    // Names of every kind, in every place of a page.
    let mut report = pruned();
    let bad = "x\"'><img src=y onerror=z>&\u{0}\u{202e}".repeat(30);
    report.plan[&bad] = bad.clone().into();
    (report.out, report.method, report.started) = (bad.clone(), bad.clone(), bad.clone());
    report.notes.push(bad.clone());
    for layer in &mut report.layers {
        layer.name = format!("{}{bad}", layer.name);
        (layer.kind, layer.method, layer.format) = (bad.clone(), bad.clone(), bad.clone());
    }
    parsed(&of(&report));
    let reports = [report.clone(), golden(), report];
    parsed(&of_many(&reports, &Comparison::of(&reports), None));
    parsed(&of_many(
        &reports[..2],
        &Comparison::of(&reports[..2]),
        Some(&Difference::between(&reports[0], &reports[1])),
    ));
}

#[test]
fn layers_are_sorted_and_dots_link_to_their_rows() {
    let root = parsed(&of(&golden()));
    let all = root.all();
    let table = all.iter().find(|e| e.get("class") == Some("sort")).unwrap();
    let rows: Vec<(String, String)> =
        table.all().iter().filter_map(|e| Some((e.get("id")?.into(), e.text()))).collect();
    let errors = [
        ("up_proj", "0", "0.100"),
        ("up_proj", "1", "0.0500"),
        ("q_proj", "1", "0.0100"),
        ("q_proj", "0", "0.00100"),
        ("q_proj", "2", "0"),
    ];
    assert_eq!(rows.len(), errors.len());
    for (i, ((id, text), (kind, block, error))) in rows.iter().zip(errors).enumerate() {
        assert_eq!(*id, format!("layer-{i}"));
        assert!(text.starts_with(&format!("layers.{block}.{kind}{error}")), "{text}");
    }
    assert!(!table.text().contains("Zeros"), "nothing was pruned");
    let link = |title: &str| all.iter().find(|e| e.name == "a" && e.child("title").is_some_and(|t| t.text() == title));
    assert_eq!(link("layers.1.q_proj: 0.0100 error").and_then(|a| a.get("href")), Some("#layer-2"));
    // One stop of the tab key for each chart.
    let stops = all.iter().filter(|e| e.get("class") == Some("point") && e.get("tabindex") == Some("0")).count();
    assert_eq!(stops, 2);
}

#[test]
fn many_layers_are_folded_and_the_worst_named() {
    let mut report = golden();
    let one = report.layers[0].clone();
    report.layers = (0..100)
        .map(|i| LayerReport {
            name: format!("layers.{i}.q_proj"),
            block: i,
            error: Some(0.001 * i as f64),
            ..one.clone()
        })
        .collect();
    let root = parsed(&of(&report));
    let all = root.all();
    let folded = all.iter().find(|e| e.name == "details" && e.text().contains("All 100 layers, worst first")).unwrap();
    assert_eq!(folded.all().iter().filter(|e| e.get("id").is_some_and(|id| id.starts_with("layer-"))).count(), 100);
    let text = root.text();
    // 10 layers of 4096 weights, 4 bits more for each.
    assert!(text.contains("Eight bits for the 10 worst layers would add 20.5 kB (2.0 % of the model)."), "{text}");
    let shown = &text[text.find("Eight bits").unwrap()..text.find("All 100 layers").unwrap()];
    assert!(
        shown.contains("layers.99.q_proj") && shown.contains("layers.90.q_proj") && !shown.contains("layers.89.q_proj")
    );
}

#[test]
fn points_lie_where_their_numbers_say() {
    let root = parsed(&of(&golden()));
    let errors = figure(&root, "Error of each layer.");
    assert!(errors.text().contains("Logarithmic scale; rings at its lower edge are 0."));
    // Three blocks; from 0.001 to 0.1 on a logarithmic scale.
    for (layer, error, x, y) in [
        ("layers.0.q_proj", "0.00100", "16.67%", "100.00%"),
        ("layers.0.up_proj", "0.100", "16.67%", "0.00%"),
        ("layers.1.q_proj", "0.0100", "50.00%", "50.00%"),
        ("layers.1.up_proj", "0.0500", "50.00%", "15.05%"),
        ("layers.2.q_proj", "0", "83.33%", "100.00%"),
    ] {
        let point = dot(errors, &format!("{layer}: {error} error"));
        assert_eq!((point.get("cx"), point.get("cy")), (Some(x), Some(y)), "{layer}");
        assert_eq!(point.get("class").unwrap().starts_with("dot zero "), error == "0");
    }
    let lines: Vec<_> = errors.all().iter().filter(|e| e.name == "polyline").map(|e| e.get("points")).collect();
    assert_eq!(lines, [Some("16.67,100.00 50.00,50.00 83.33,100.00"), Some("16.67,0.00 50.00,15.05")]);
    // 0 over 0 is no ratio; the others from 0.25 to 1.
    let ratios = figure(&root, "Error relative to plain rounding.");
    let circles = ratios.all().iter().filter(|e| e.get("class") == Some("point")).count();
    let mark = ratios.all().into_iter().find(|e| e.get("class") == Some("mark")).and_then(|e| e.get("y1"));
    assert_eq!((circles, mark), (4, Some("0.00%")));
    for (layer, ratio, y) in [("layers.0.q_proj", "0.500", "50.00%"), ("layers.1.q_proj", "0.250", "75.00%")] {
        let point = dot(ratios, &format!("{layer}: {ratio} times the error of plain rounding"));
        assert_eq!(point.get("cy"), Some(y));
    }
}

#[test]
fn cells_are_as_dark_as_their_numbers() {
    let root = parsed(&of(&pruned()));
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
    let mut report = pruned();
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
    assert_eq!(headings(&root), ["Size", "Zeros by layer", "Layers", "Plan", "Environment"]);
    // A sentence, and not a picture of one colour.
    assert!(
        root.text().contains("Share of zeros: 50.0 % in all layers.") && !root.all().iter().any(|e| e.name == "figure")
    );
    report.plan["recipe"]["pattern"] = serde_json::Value::Null;
    let root = parsed(&of(&report));
    assert_eq!(headings(&root), ["Size", "Layers", "Plan", "Environment"]);
    assert!(!root.text().contains("Zeros"), "codes that are 0 are no pruned weights");
    report.layers.clear();
    assert_eq!(headings(&parsed(&of(&report))), ["Size", "Plan", "Environment"]);
}

/// The golden report, and the same with another method, no perplexity and other errors.
fn two() -> [Report; 2] {
    let first = golden();
    let mut second = first.clone();
    second.out = "other".into();
    second.plan["recipe"]["method"] = "gptq".into();
    second.perplexity = None;
    (second.bytes_out, second.seconds) = (1_190_000, 400.0);
    second.layers[0].error = Some(0.0005);
    second.layers[2].error = Some(0.02);
    second.layers.remove(4);
    [first, second]
}

#[test]
fn two_runs_are_one_page() {
    let [first, second] = two();
    let page = |reports: &[Report; 2]| {
        parsed(&of_many(reports, &Comparison::of(reports), Some(&Difference::between(&reports[0], &reports[1]))))
    };
    let root = page(&[first.clone(), second]);
    assert_eq!(
        headings(&root),
        [
            "Runs",
            "Options that differ",
            "Numbers",
            "Error by layer",
            "Layers that differ most",
            "Time by stage",
            "Environment"
        ]
    );
    let text = root.text();
    for part in [
        "Comparison of out & co, other",
        "B: mean error +32 %, +19 % size, 10× faster",
        "A out & co",
        "--methodspqrgptq",
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
    let chart = figure(&root, "Error of B relative to A.");
    let point = dot(chart, "layers.1.q_proj: 2.000 times the error of A");
    assert_eq!((point.get("cx"), point.get("cy")), (Some("75.00%"), Some("0.00%")));
    let same = page(&[first.clone(), first]).text();
    for part in ["All errors are the same.", "B: the same perplexity, the same size", "None."] {
        assert!(same.contains(part), "{part}\n{same}");
    }
}

#[test]
fn many_runs_are_one_page() {
    let [first, second] = two();
    let mut reports = vec![first.clone()];
    for i in 1..12 {
        let mut report = second.clone();
        report.out = format!("run-{i}");
        report.perplexity = first.perplexity.clone().map(|p| PerplexityReport { after: 9.0 - 0.1 * i as f64, ..p });
        report.bits_per_weight = 2.0 + 0.25 * i as f64;
        report.plan["seqlen"] = i.into();
        reports.push(report);
    }
    reports[3].perplexity = None;
    let comparison = Comparison::of(&reports);
    let root = parsed(&of_many(&reports, &comparison, None));
    assert_eq!(headings(&root), ["Runs", "Options that differ", "Layers that differ most"]);
    let text = root.text();
    assert!(text.contains("Comparison of 12 runs") && text.contains("L run-11"), "{text}");
    let best = "Best trade-offs of bits and perplexity: B (2.25 bits, 8.900), C (2.50 bits, 8.800), E";
    assert!(text.contains(best), "{text}");
    let picture = figure(&root, "Bits and perplexity");
    let labels: Vec<String> =
        picture.all().iter().filter(|e| e.get("class") == Some("label")).map(|e| e.text()).collect();
    assert_eq!(labels, ["A", "B", "C", "E", "F", "G", "H", "I", "J", "K", "L"], "all but the one without perplexity");
    dot(picture, "B (run-1, GPTQ): 2.25 bits, perplexity 8.900");
    assert!(picture.text().contains("bits per weight"));
    // Rows of runs, as there are more of them than of options.
    assert!(text.contains("Run--method--seqlen"), "{text}");
    assert!(text.contains("layers.0.q_proj0.001000.0005000.000500"), "{text}");
}
