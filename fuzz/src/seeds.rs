//! Inputs to begin with, made of golden files.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::Path;

use paring_format::layouts::{layout, part_names};
use paring_format::{Dtype, Element, LayoutPart, LayoutParts, QuantConfig, ScaleType, Scheme, Strategy};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::bodies;

/// Writes a folder for each target.
pub fn write(to: &Path, golden: &Path) -> Result<(), Box<dyn Error>> {
    for target in bodies::targets() {
        fs::create_dir_all(to.join(target))?;
    }
    let mut seen = BTreeSet::new();
    for index in ["index.json", "sparse.json"] {
        let index: Value = serde_json::from_slice(&fs::read(golden.join(index))?)?;
        for case in index["cases"].as_array().ok_or("an index without cases")? {
            write_case(to, golden, case, &mut seen)?;
        }
    }
    // Of SpQR's there is one storage; the other is made of the numbers in it.
    for entry in fs::read_dir(golden.join("spqr"))? {
        let path = entry?.path();
        let parts = parts(&fs::read(&path)?, "expected.")?;
        let name = path.file_stem().and_then(|name| name.to_str()).ok_or("a file without a name")?;
        let size = name.split('_').nth(1).and_then(|size| size.split_once('x')).ok_or("a name without a shape")?;
        let shape = (size.0.parse()?, size.1.parse()?);
        let scheme = Scheme::spqr(vec!["Linear".into()]);
        fs::write(to.join("layout-spqr").join(name), input(&scheme, shape, &parts))?;
        let Ok(c) = layout("spqr").ok_or("no layout spqr")?.decode_shaped(&scheme, parts.clone(), shape) else {
            continue;
        };
        let own = Scheme::of(&c, "paring-spqr", vec!["Linear".into()]);
        let parts = layout("paring-spqr").ok_or("no layout paring-spqr")?.encode(&own, &c)?;
        fs::write(to.join("layout-paring-spqr").join(name), input(&own, shape, &parts))?;
        let config = QuantConfig::new(vec![("group_0".into(), own)], vec![]).to_json();
        fs::write(to.join("config").join(name), serde_json::to_vec(&config)?)?;
        fs::write(to.join("checkpoint").join(name), folder(&json!({"quantization_config": config}), &parts)?)?;
    }
    Ok(())
}

/// Writes the input for a case of an index, if no case before it had the same scheme.
fn write_case(to: &Path, golden: &Path, case: &Value, seen: &mut BTreeSet<String>) -> Result<(), Box<dyn Error>> {
    let text = |key: &str| case[key].as_str();
    let file = text("file").ok_or("a case without a file")?;
    let format = text("format").ok_or("a case without a format")?;
    // The weights of a sparse format are those of another one.
    let (inner, sparsity) = match text("quant_format") {
        Some(inner) => (Some(inner), json!({"format": format, "targets": ["Linear"]})),
        None if format.starts_with("sparse-") => (None, json!({"format": format, "targets": ["Linear"]})),
        None => (Some(format), json!({})),
    };
    let group = json!({"targets": ["Linear"], "format": inner, "weights": case["weights"]});
    let groups = if inner.is_some() { json!({"group_0": group}) } else { json!({}) };
    let version = text("producer").and_then(|producer| producer.rsplit(' ').next());
    let config = json!({"quant_method": "compressed-tensors", "quantization_status": "compressed", "version": version,
        "format": inner, "ignore": ["lm_head"], "config_groups": groups, "sparsity_config": sparsity});
    let parsed = QuantConfig::parse(&config)?;
    if !seen.insert(config.to_string()) {
        return Ok(());
    }
    let name = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".safetensors");
    let parts = parts(&fs::read(golden.join(file))?, "expected.")?;
    let shape = (case["rows"].as_u64().unwrap_or(0) as usize, case["cols"].as_u64().unwrap_or(0) as usize);
    let scheme = parsed.groups.first().map_or(Scheme::dense(), |(_, scheme)| scheme.clone());
    fs::write(to.join("config").join(name), serde_json::to_vec(&config)?)?;
    fs::write(to.join(format!("layout-{format}")).join(name), input(&scheme, shape, &parts))?;
    fs::write(to.join("checkpoint").join(name), folder(&json!({"quantization_config": config}), &parts)?)?;
    Ok(())
}

/// Tensors of a file whose names have this prefix.
fn parts(bytes: &[u8], prefix: &str) -> Result<LayoutParts, Box<dyn Error>> {
    let file = SafeTensors::deserialize(bytes)?;
    let part = |local: &&'static str| {
        let view = file.tensor(&format!("{prefix}{local}")).ok()?;
        let part = LayoutPart {
            dtype: Dtype::from_safetensors(view.dtype())?,
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        };
        Some((*local, part))
    };
    Ok(part_names().iter().filter_map(part).collect())
}

/// Encodes an input for the target of a layout.
fn input(scheme: &Scheme, shape: (usize, usize), parts: &LayoutParts) -> Vec<u8> {
    let mut out = Vec::new();
    let args = scheme.weights.as_ref();
    let flag = |bit: u8, set: bool| if set { bit } else { 0 };
    out.push(
        flag(1, args.is_some_and(|args| args.symmetric))
            | flag(2, args.is_some_and(|args| args.float_zeros))
            | flag(4, args.is_some_and(|args| args.actorder.as_deref() == Some("group")))
            | flag(8, args.is_some_and(|args| args.second.is_some()))
            | flag(16, scheme.padded)
            | flag(32, args.is_none()),
    );
    out.push(match args.map(|args| args.element) {
        Some(Element::E4m3) => 16,
        Some(Element::E2m1) => 17,
        Some(Element::E2m3) => 18,
        Some(Element::Int(bits)) => bits as u8,
        None => 0,
    });
    let (strategy, sizes) = match args.map_or(Strategy::Channel, |args| args.strategy) {
        Strategy::Tensor => (0, vec![]),
        Strategy::Group(size) => (1, vec![size]),
        Strategy::TensorGroup(size) => (2, vec![size]),
        Strategy::Block(rows, cols) => (3, vec![rows, cols]),
        Strategy::Token => (4, vec![]),
        Strategy::Head => (5, vec![]),
        Strategy::Channel => (6, vec![]),
    };
    out.push(strategy);
    sizes.into_iter().for_each(|size| number(&mut out, size));
    out.push(match args.map(|args| args.scale_type) {
        Some(ScaleType::E4m3) => 1,
        Some(ScaleType::Exponent) => 2,
        _ => 0,
    });
    if let Some(second) = args.and_then(|args| args.second) {
        out.push(second.scale_bits.unwrap_or(0) as u8);
        out.push(second.zero_bits.unwrap_or(0) as u8);
        number(&mut out, second.rows);
    }
    number(&mut out, shape.0);
    number(&mut out, shape.1);
    for (name, part) in parts {
        out.push(name.len() as u8);
        out.extend(name.as_bytes());
        out.push(part.dtype as u8);
        out.push(part.shape.len() as u8);
        part.shape.iter().for_each(|&dim| number(&mut out, dim));
        out.push(0);
        out.extend(&part.bytes);
    }
    out
}

/// Encodes an input for the target of folders: one linear of a model.
fn folder(config: &Value, parts: &LayoutParts) -> Result<Vec<u8>, Box<dyn Error>> {
    let config = serde_json::to_vec(config)?;
    let tensors = parts.iter().map(|(name, part)| {
        let view = safetensors::tensor::TensorView::new(part.dtype.to_safetensors(), part.shape.clone(), &part.bytes)?;
        Ok((format!("model.layers.0.mlp.down_proj.{name}"), view))
    });
    let tensors = tensors.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let weights = safetensors::serialize(tensors, None)?;
    let (length, rest) = weights.split_first_chunk::<8>().ok_or("a file without a header")?;
    let mut out = vec![1];
    number(&mut out, config.len());
    number(&mut out, u64::from_le_bytes(*length) as usize);
    out.extend(config);
    out.extend(rest);
    Ok(out)
}

/// Encodes a number for `Input::number`.
fn number(out: &mut Vec<u8>, number: usize) {
    if number < 240 {
        return out.push(number as u8);
    }
    let bytes = number.to_le_bytes();
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(1, |last| last + 1);
    out.push(239 + used as u8);
    out.extend(&bytes[..used]);
}
