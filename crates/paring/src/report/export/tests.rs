use std::path::PathBuf;

use paring_format::writer::InputFiles;

use super::*;

fn golden() -> Report {
    Report::read(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/report.json")).unwrap()
}

/// The fields of a message: a number, and an integer, the bits of a float, or bytes.
#[derive(Debug, PartialEq)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let mut take = |n: usize| {
            let (now, rest) = bytes.split_at(n);
            bytes = rest;
            now.to_vec()
        };
        let value = match key & 7 {
            1 => Field::Number(u64::from_le_bytes(take(8).try_into().unwrap())),
            5 => Field::Number(u32::from_le_bytes(take(4).try_into().unwrap()).into()),
            0 => Field::Number(varint(&mut bytes)),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (now, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(now.to_vec())
            }
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, value));
    }
    fields
}

/// The messages or texts in a field.
fn within(bytes: &[u8], field: u64) -> Vec<Vec<u8>> {
    let of_field = |(number, value)| match value {
        Field::Bytes(bytes) if number == field => Some(bytes),
        _ => None,
    };
    fields(bytes).into_iter().filter_map(of_field).collect()
}

fn number(bytes: &[u8], field: u64) -> Option<u64> {
    fields(bytes).into_iter().find_map(|(number, value)| match value {
        Field::Number(value) if number == field => Some(value),
        _ => None,
    })
}

fn text(bytes: &[u8], field: u64) -> String {
    String::from_utf8(within(bytes, field).concat()).unwrap()
}

#[test]
fn checksums_are_the_published_ones() {
    // RFC 3720, B.4.
    assert_eq!(tensorboard::crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(tensorboard::crc32c(&[0xff; 32]), 0x62a8_ab43);
    assert_eq!(tensorboard::crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
}

/// Every file that TensorFlow writes begins with a record of 24 bytes: the time, as a double in field 1, and in field 3
/// (which is 0x1a) 13 letters.
#[test]
fn an_event_file_begins_as_those_of_tensorflow_do() {
    let bytes = tensorboard::events(&golden(), 1.5);
    let mut want = vec![24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22];
    want.extend([0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x1a, 13]);
    want.extend(b"brain.Event:2");
    want.extend(EVENT_CHECKSUM);
    assert_eq!(bytes[..want.len()], want);
}

/// The first record at 1.5 s, as TensorBoard's own code writes it.
const EVENT_CHECKSUM: [u8; 4] = [42, 40, 100, 108];

#[test]
fn an_event_file_holds_the_numbers_of_a_report() {
    let bytes = tensorboard::events(&golden(), 1.5);
    let mut rest = &bytes[..];
    let mut events = Vec::new();
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let checksum = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        let masked = |bytes: &[u8]| {
            let crc = tensorboard::crc32c(bytes);
            crc.rotate_left(17).wrapping_add(0xa282_ead8)
        };
        let data = &rest[12..12 + length];
        assert_eq!((checksum(8), checksum(12 + length)), (masked(&rest[..8]), masked(data)));
        events.push(data.to_vec());
        rest = &rest[16 + length..];
    }
    assert!(events.iter().all(|event| number(event, 1) == Some(1.5f64.to_bits())));
    let values = |event: &Vec<u8>| within(event, 5).iter().flat_map(|summary| within(summary, 1)).collect::<Vec<_>>();
    let texts: Vec<(String, String)> =
        values(&events[1]).iter().map(|value| (text(value, 1), text(&within(value, 8)[0], 8))).collect();
    assert_eq!(texts[0].0, "plan/text_summary");
    assert!(texts[0].1.contains("model: `\"org/<script>") && texts[0].1.contains("command: `"), "{}", texts[0].1);
    assert_eq!(texts[1].1, "layers.1.up_proj: more damping & <b>patience</b>");
    let scalars = |event: &Vec<u8>| {
        let scalar = |value: &Vec<u8>| (text(value, 1), f32::from_bits(number(value, 2).unwrap() as u32));
        values(event).iter().map(scalar).collect::<BTreeMap<String, f32>>()
    };
    let run = scalars(&events[2]);
    assert_eq!((run["run/bits_per_weight"], run["run/perplexity_after"], run["run/seconds/write"]), (4.5, 8.5, 500.0));
    // One event a block, whose step is the block.
    assert_eq!(events.len(), 3 + 3);
    for (block, event) in events[3..].iter().enumerate() {
        assert_eq!(number(event, 2), Some(block as u64));
    }
    let second = scalars(&events[4]);
    assert_eq!((second["error/q_proj"], second["error/up_proj"], second["sweep_seconds"]), (0.01, 0.05, 0.75));
    assert_eq!((second["bits/up_proj"], second["sparsity/up_proj"]), (5.0, 0.5));
    assert_eq!((second["outlier_share/q_proj"], second["baseline_error/q_proj"]), (128.0 / 4096.0, 0.04));
}

/// Undoes the log as LevelDB's documentation describes it.
fn unlogged(bytes: &[u8]) -> Vec<Vec<u8>> {
    assert_eq!(bytes[..7], *b":W&B\xe1\xbe\x00");
    let (mut records, mut at, mut inside) = (vec![Vec::new()], 7, false);
    while at < bytes.len() {
        let budget = 32_768 - at % 32_768;
        if budget < 7 {
            assert!(bytes[at..at + budget].iter().all(|&byte| byte == 0));
            at += budget;
            continue;
        }
        let length = usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
        assert!(length + 7 <= budget);
        let (kind, data) = (bytes[at + 6], &bytes[at + 7..at + 7 + length]);
        // CRC-32 as in zlib, a bit at a time, of the kind and the data.
        let bit = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), bit);
        let crc = !bytes[at + 6..at + 7 + length].iter().fold(!0, byte);
        assert_eq!(bytes[at..at + 4], crc.to_le_bytes());
        assert_eq!(inside, kind == 3 || kind == 4, "a piece of kind {kind} at {at}");
        inside = kind == 2 || kind == 3;
        records.last_mut().unwrap().extend(data);
        if !inside {
            records.push(Vec::new());
        }
        at += 7 + length;
    }
    assert_eq!(records.pop(), Some(Vec::new()));
    records
}

#[test]
fn a_log_cuts_records_where_blocks_end() {
    // Up to the last byte of a block, with less than a piece's head left, with exactly that, and over several blocks.
    for length in [1, 32_747, 32_748, 32_749, 32_753, 32_754, 32_755, 32_760, 100_000] {
        let records: Vec<Vec<u8>> = vec![vec![7; length], vec![8; 3], vec![9; 70_000]];
        assert_eq!(unlogged(&wandb::log(&records)), records, "{length}");
    }
    let one = wandb::log(&[b"one".to_vec()]);
    assert_eq!(one[7 + 4..], [3, 0, 1, b'o', b'n', b'e']);
}

#[test]
fn an_offline_run_holds_the_numbers_of_a_report() {
    let (dir, report) = (tempfile::tempdir().unwrap(), golden());
    let made = wandb::write(&report, dir.path(), (&InputFiles::default(), false)).unwrap();
    assert_eq!(wandb::write(&report, dir.path(), (&InputFiles::default(), false)).unwrap(), made);
    let folder = made.file_name().unwrap().to_str().unwrap();
    let (front, id) = folder.rsplit_once('-').unwrap();
    assert_eq!((front, id.len()), ("offline-run-20260131_235959", 8));
    let records = unlogged(&std::fs::read(made.join(format!("run-{id}.wandb"))).unwrap());
    let numbers: Vec<u64> = records.iter().map(|record| number(record, 1).unwrap()).collect();
    assert!(numbers.into_iter().eq(1..=records.len() as u64));
    let of_kind = |field| records.iter().flat_map(|record| within(record, field)).collect::<Vec<_>>();
    assert!(text(&within(&of_kind(21)[0], 1)[0], 1).starts_with("paring "));
    let run = &of_kind(17)[0];
    assert_eq!((text(run, 1).as_str(), text(run, 3).as_str(), text(run, 8).as_str()), (id, "paring", "out & co"));
    assert_eq!(number(&within(run, 17)[0], 1), Some(1_769_903_999));
    let items = |bytes: &[u8], key| {
        let item = |item: &Vec<u8>| (text(item, key), serde_json::from_str(&text(item, 16)).unwrap());
        within(bytes, 1).iter().map(item).collect::<BTreeMap<String, serde_json::Value>>()
    };
    let config = items(&within(run, 4)[0], 1);
    assert_eq!((&config["recipe"]["method"], &config["seed"]), (&"spqr".into(), &0.into()));
    assert!(config["command"].as_str().unwrap().starts_with("paring quantize 'org/<script>"));
    let history: Vec<BTreeMap<String, serde_json::Value>> = of_kind(2).iter().map(|row| items(row, 2)).collect();
    let errors: Vec<f64> = history.iter().map(|row| row["error/q_proj"].as_f64().unwrap()).collect();
    assert_eq!((errors, history[2]["_step"].as_u64()), (vec![0.001, 0.01, 0.0], Some(2)));
    let summary = items(&of_kind(3)[0], 1);
    assert_eq!((&summary["bits_per_weight"], &summary["perplexity_before"]), (&4.5.into(), &8.0.into()));
    assert_eq!(number(&of_kind(18)[0], 1), Some(0));
}

#[test]
fn what_is_no_number_or_no_time_is_not_written_as_one() {
    let mut report = golden();
    report.layers[0].error = Some(f64::INFINITY);
    report.layers[0].baseline_error = None;
    report.sparsity = f64::NAN;
    let first = &by_block(&report)[&0];
    assert!(!first.contains_key("error/q_proj") && !first.contains_key("baseline_error/q_proj"), "{first:?}");
    assert!(first.contains_key("error/up_proj") && of_run(&report).iter().all(|(name, _)| name != "sparsity"));
    report.method = "../../method".into();
    for (out, want) in [("a/b/", "b"), ("/", "run"), ("..", "run"), ("a/..", "run"), ("", "run")] {
        report.out = out.into();
        assert_eq!(name(&report), want);
    }
    (report.out, report.started) = ("out & co".into(), "yesterday".into());
    let dir = tempfile::tempdir().unwrap();
    for error in [
        tensorboard::write(&report, dir.path(), (&InputFiles::default(), false)),
        wandb::write(&report, dir.path(), (&InputFiles::default(), false)),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("out & co") && error.contains("yesterday"), "{error}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
