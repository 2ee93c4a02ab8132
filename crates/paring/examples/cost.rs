//! Prints the table of docs/dev/cost-model.md: what runs of Llamas cannot be faster than on one card, and what they hold.
//!
//!     cargo run --release -p paring --example cost -- [MEMORY BANDWIDTH PRODUCTS SINGLES LINK DISK]
//!
//! The card in GiB, bytes and operations a second; without arguments an H100 with 80 GiB, of its data sheet: 3.35e12 bytes
//! through memory, 9.89e14 operations of dense bfloat16 products, 6.7e13 in f32; a link of 5.5e10 bytes and a disk of 5e9.

use paring::cost::{Card, LLAMAS};
use paring::plan::method::{GPTQ, SPARSEGPT};
use paring::plan::{Pattern, Recipe, Rounding};

const H100: [f64; 6] = [80.0, 3.35e12, 9.89e14, 6.7e13, 5.5e10, 5e9];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<Vec<f64>, _>>()?;
    let [memory, bandwidth, products, singles, link, disk] = match given.len() {
        0 => H100,
        _ => given.try_into().map_err(|_| "expected MEMORY BANDWIDTH PRODUCTS SINGLES LINK DISK")?,
    };
    let gib = f64::from(1u32 << 30);
    let card = Card { memory: (memory * gib) as u64, bandwidth, products, singles, link, disk };
    let recipe = |method, pattern, rounding| Recipe { pattern, rounding, ..Recipe::new(method) };
    let four_bits = Rounding { symmetric: true, ..Rounding::int(4, Some(128)) };
    let runs = [
        ("SparseGPT 2:4", recipe(&SPARSEGPT, Some(Pattern::NofM { keep: 2, of: 4 }), None)),
        ("GPTQ, 4 bits in groups of 128", recipe(&GPTQ, None, Some(four_bits))),
    ];
    println!(
        "| model | run | forward, s | gram | factor | sweep | error | link | disk | floor, s | card, GB | at | host, GB | \
        output, GB |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for model in LLAMAS {
        for (name, recipe) in &runs {
            let floor = model.floor(recipe, 128, 2048, &card)?;
            let stages: Vec<String> = floor.stages.iter().map(|(_, seconds)| format!("{seconds:.1}")).collect();
            let peak = floor.device.peak().map_or("", |point| point.at);
            println!(
                "| {} | {name} | {} | {:.1} | {:.1} | {:.0} | {:.1} | {peak} | {:.1} | {:.1} |",
                model.name,
                stages.join(" | "),
                floor.link,
                floor.disk,
                floor.seconds,
                floor.device.bytes() as f64 / 1e9,
                floor.host as f64 / 1e9,
                floor.output as f64 / 1e9,
            );
        }
    }
    Ok(())
}
