//! The output of `--dry-run`.

use paring::cost::{Costs, Point};

use crate::show::size;

/// The table of what a run will take, and the sentences below it.
pub(super) fn table(costs: &Costs) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<10} {:>12} {:>12} {:>10} {:>10} {:>10} {:>9}",
        "stage", "operations", "memory moved", "to GPU", "files read", "written", "seconds"
    )];
    let bytes = |bytes: f64| if bytes > 0.0 { size(bytes as u64) } else { String::new() };
    for stage in costs.stages.iter().filter(|stage| stage.operations + stage.bytes_moved > 0.0) {
        lines.push(format!(
            "{:<10} {:>12} {:>12} {:>10} {:>10} {:>10} {:>9}",
            stage.stage,
            count(stage.operations),
            bytes(stage.bytes_moved),
            bytes(stage.bytes_carried),
            bytes(stage.bytes_read),
            bytes(stage.bytes_written),
            format!("~{:.1}", stage.seconds),
        ));
    }
    if let Some((point, device)) = costs.device.as_ref().and_then(|device| Some((device.peak()?, device))) {
        let place = if device.holds_activations { "on the GPU" } else { "on the host" };
        lines.push(format!(
            "GPU memory: {}; {} windows at a time, activations between blocks wait {place}",
            at_most(point),
            device.batch
        ));
    }
    lines.push(format!("memory: {}", at_most(&costs.peak)));
    let known = if costs.bytes_out_known { "" } else { ", without what depends on the weights (outliers, zeros)" };
    let replaced = match costs.replaced {
        0 => String::new(),
        bytes => format!(", beside the {} of the earlier output, which stays until this one is finished", size(bytes)),
    };
    let snapshots = match costs.disk_snapshots {
        0 => String::new(),
        bytes => format!(
            ", {} of them two snapshots of activations, one of which replaces the other; they are left out where the disk is full",
            size(bytes)
        ),
    };
    let (out, disk) = (size(costs.bytes_out), size(costs.disk));
    lines.push(format!("output: {out} of tensors{known}; {disk} on disk at most{snapshots}{replaced}"));
    lines.push(format!(
        "time: about {:.0} s, an estimate from small matrices tried just now; nothing was written",
        costs.seconds
    ));
    lines
}

/// A moment with the most memory, and what is there.
fn at_most(point: &Point) -> String {
    let mut parts = point.parts.clone();
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    let parts: Vec<String> = parts.iter().map(|part| format!("{} {}", part.name, mib(part.bytes))).collect();
    format!("{} at most, at {}: {}", mib(point.bytes()), point.at, parts.join(", "))
}

/// Bytes in MiB, as the report of a run has them.
fn mib(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!("{:.0} MiB", bytes as f64 / f64::from(1u32 << 20)) }
}

/// Operations as people read them.
fn count(operations: f64) -> String {
    match operations {
        n if n <= 0.0 => String::new(),
        n if n < 1e12 => format!("{:.2} G", n / 1e9),
        n => format!("{:.2} T", n / 1e12),
    }
}

#[cfg(test)]
mod tests {
    use paring::cost::{Device, Part, StageCosts};

    use super::*;

    #[test]
    fn a_table_says_what_is_known_and_what_is_not() {
        let stage = StageCosts {
            stage: "gram",
            operations: 2.5e12,
            bytes_moved: 1e9,
            bytes_carried: 0.0,
            bytes_read: 0.0,
            bytes_written: 0.0,
            seconds: 1.25,
        };
        let part = |name, mib: u64| Part { name, bytes: mib << 20 };
        let costs = Costs {
            stages: vec![stage],
            device: Some(Device {
                batch: 3,
                holds_activations: false,
                points: vec![Point { at: "gram", parts: vec![part("Gram matrices", 7)] }],
            }),
            peak_vram: Some(7 << 20),
            peak_rss: 120 << 20,
            peak: Point { at: "sweep", parts: vec![part("codes", 20), part("weights of a fan", 100)] },
            bytes_out: 5_000_000,
            bytes_out_known: false,
            disk: 6_000_000,
            replaced: 7_000_000,
            disk_snapshots: 0,
            seconds: 1.25,
        };
        let lines = table(&costs);
        let words: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(words, ["gram", "2.50", "T", "1.00", "GB", "~1.2"]);
        assert_eq!(
            lines[2],
            "GPU memory: 7 MiB at most, at gram: Gram matrices 7 MiB; 3 windows at a time, activations between blocks wait on \
            the host"
        );
        assert_eq!(lines[3], "memory: 120 MiB at most, at sweep: weights of a fan 100 MiB, codes 20 MiB");
        assert!(
            lines[4].starts_with("output: 5.00 MB of tensors, without what depends on the weights"),
            "{}",
            lines[4]
        );
        assert_eq!(
            lines[4].split("; ").nth(1),
            Some(
                "6.00 MB on disk at most, beside the 7.00 MB of the earlier output, which stays until this one is finished"
            )
        );
        let kept = table(&Costs { disk_snapshots: 400_000, ..costs });
        assert!(
            kept[4].contains("6.00 MB on disk at most, 400.0 kB of them two snapshots of activations"),
            "{}",
            kept[4]
        );
    }
}
