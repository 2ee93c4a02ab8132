//! The output of `--dry-run`.

use paring::cost::Costs;

use crate::show::amounts::{mib, seconds, size};
use paring::report::words::plural;

/// The time, memory and disk that a run will take; above them, if every stage is asked for, a table.
pub(super) fn lines(costs: &Costs, every_stage: bool) -> Vec<String> {
    let mut lines = if every_stage { table(costs) } else { Vec::new() };
    lines.push(format!(
        "time      about {}, from small matrices tried on this machine just now",
        seconds(costs.seconds)
    ));
    lines.push(format!("memory    at most {}", mib(costs.peak_rss)));
    if let Some(device) = &costs.device {
        let place = if device.holds_activations { "on the GPU" } else { "in memory" };
        let windows = plural(device.batch, "window");
        lines.push(format!(
            "GPU       at most {}: {windows} at a time; activations between blocks stay {place}",
            mib(costs.peak_vram.unwrap_or_default())
        ));
    }
    lines.push(format!("disk      at most {}; nothing was written", disk(costs)));
    lines
}

fn disk(costs: &Costs) -> String {
    let known = if costs.bytes_out_known { "" } else { ", outliers and zeros not counted" };
    let mut parts = vec![format!("{} for the tensors{known}", size(costs.bytes_out))];
    if costs.disk_snapshots > 0 {
        let snapshots = size(costs.disk_snapshots);
        parts.push(format!("{snapshots} for two snapshots of activations, which are left out where the disk is full"));
    }
    let earlier = match costs.replaced {
        0 => String::new(),
        bytes => format!(", and the {} of the earlier output until this one is finished", size(bytes)),
    };
    format!("{} ({}){earlier}", size(costs.disk), parts.join(", "))
}

/// The stages, in 80 columns.
fn table(costs: &Costs) -> Vec<String> {
    let has_gpu = costs.device.is_some();
    let row = |[stage, operations, moved, carried, read, written, seconds]: [&str; 7]| {
        let carried = if has_gpu { format!(" {carried:>10}") } else { String::new() };
        format!("{stage:<8} {operations:>10} {moved:>11}{carried} {read:>10} {written:>10} {seconds:>9}")
    };
    let bytes = |bytes: f64| if bytes > 0.0 { size(bytes as u64) } else { String::new() };
    let mut lines = vec![row(["stage", "operations", "moved", "to GPU", "files read", "written", "time"])];
    for stage in costs.stages.iter().filter(|stage| stage.operations + stage.bytes_moved > 0.0) {
        lines.push(row([
            stage.stage,
            &count(stage.operations),
            &bytes(stage.bytes_moved),
            &bytes(stage.bytes_carried),
            &bytes(stage.bytes_read),
            &bytes(stage.bytes_written),
            &seconds(stage.seconds),
        ]));
    }
    lines.push(String::new());
    lines
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
    use paring::cost::{Device, Part, Point, StageCosts};

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
        let all = lines(&costs, true);
        let words: Vec<&str> = all[1].split_whitespace().collect();
        assert_eq!(words, ["gram", "2.50", "T", "1.00", "GB", "1.2", "s"]);
        assert!(all[..2].iter().all(|line| line.chars().count() <= 80), "{all:#?}");
        let short = lines(&costs, false);
        assert_eq!(short, all[3..]);
        assert_eq!(
            short,
            [
                "time      about 1.2 s, from small matrices tried on this machine just now",
                "memory    at most 120 MiB",
                "GPU       at most 7 MiB: 3 windows at a time; activations between blocks stay in memory",
                "disk      at most 6.00 MB (5.00 MB for the tensors, outliers and zeros not counted), and the 7.00 MB of the \
                 earlier output until this one is finished; nothing was written",
            ]
        );
        let kept =
            lines(&Costs { disk_snapshots: 400_000, replaced: 0, bytes_out_known: true, device: None, ..costs }, false);
        assert!(
            kept[2].contains("(5.00 MB for the tensors, 400 kB for two snapshots of activations, which"),
            "{}",
            kept[2]
        );
    }
}
