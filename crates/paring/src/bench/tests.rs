use super::*;

fn tiny(operations: &[&str], budget: Duration) -> Bench {
    let operations = operations.iter().map(|name| name.to_string()).collect();
    run(&Device::Cpu, &BenchOptions { operations, shapes: &SHAPES[0], budget }).unwrap()
}

#[test]
fn every_operation_is_measured() {
    let bench = tiny(&[], Duration::MAX);
    assert!(bench.skipped.is_empty(), "{:?}", bench.skipped);
    for (name, _) in OPERATIONS {
        let of_name = bench.measured.iter().filter(|m| m.operation.starts_with(name));
        let sound = of_name.filter(|m| m.seconds > 0.0 && m.floor > 0.0 && m.ratio.is_finite() && m.runs > 0);
        assert!(sound.count() > 0, "{name}");
    }
    assert!(bench.rates.copy > 0.0 && bench.rates.f32 > 0.0 && bench.rates.bf16 > 0.0);
}

#[test]
fn only_what_is_asked_for_and_only_while_there_is_time() {
    let bench = tiny(&["sweep-g", "norm"], Duration::MAX);
    let names: std::collections::BTreeSet<&str> = bench.measured.iter().map(|m| m.operation.as_str()).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["norm", "sweep-gptq-g128", "sweep-gptq-g64"]);
    let bench = tiny(&["norm"], Duration::ZERO);
    assert!(bench.measured.is_empty() && bench.skipped[0].reason == "no time left of 0 s", "{bench:?}");
    let options = BenchOptions { operations: vec!["nrom".into()], shapes: &SHAPES[0], budget: Duration::MAX };
    let error = options.check().unwrap_err().to_string();
    assert!(error.starts_with("ops nrom: no such operation; there are gram, "), "{error}");
}
