//! Quantizes a model to four bits and measures what that costs:
//!
//!     cargo run --release -p paring --example quantize_and_evaluate -- MODEL CALIBRATION.txt TEST.txt OUT

use paring::report::Report;
use paring::{Request, Result};

/// Writes the quantized model to `out`; the report has the perplexity on `test`, before and after.
pub fn quantize(model: &str, calibration: &str, test: &str, out: &str) -> Result<Report> {
    let request = Request::quantize(model).data(calibration).bits(4).group_size(32).symmetric();
    paring::run(request.evaluate_on(test).out(out), &mut ())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, calibration, test, out] = arguments.as_slice() else {
        return Err("expected MODEL CALIBRATION.txt TEST.txt OUT".into());
    };
    let report = quantize(model, calibration, test, out)?;
    println!("{:.2} bits a weight, {} of {} bytes", report.bits_per_weight, report.bytes_out, report.bytes_in);
    if let Some(perplexity) = report.perplexity {
        println!("perplexity {:.3} before, {:.3} after", perplexity.before, perplexity.after);
    }
    Ok(())
}
