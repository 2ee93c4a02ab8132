//! What every target does with its input. The fuzz targets and an ordinary test, which replays the inputs under
//! `tests/golden/fuzz`, share this file.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use paring_format::layouts::{self, PART_NAMES};
use paring_format::{
    Checkpoint, Dtype, Dynamic, Element, Error, LAYOUTS, Layout, Part, Parts, QuantArgs, QuantConfig, ScaleType,
    Scheme, SecondLevel, Strategy,
};
use serde_json::Value;

/// Element types by number; their order stands in the inputs.
const DTYPES: [Dtype; 12] = [
    Dtype::F64,
    Dtype::F32,
    Dtype::F16,
    Dtype::Bf16,
    Dtype::F8E4M3,
    Dtype::I64,
    Dtype::I32,
    Dtype::I16,
    Dtype::I8,
    Dtype::U8,
    Dtype::U32,
    Dtype::Bool,
];

const LAYOUT: &str = "layout-";

/// The names of all targets: folders of weights, configurations, and each layout.
pub fn targets() -> Vec<String> {
    let layouts = LAYOUTS.iter().map(|layout| format!("{LAYOUT}{}", layout.name()));
    ["checkpoint", "config"].map(String::from).into_iter().chain(layouts).collect()
}

/// Runs a target, which panics when it finds something. Returns whether the input was a good one: it was not refused.
pub fn run(target: &str, data: &[u8]) -> bool {
    match (target, target.strip_prefix(LAYOUT).and_then(layouts::layout)) {
        ("checkpoint", _) => checkpoint(data),
        ("config", _) => config(data),
        (_, Some(layout)) => decode(layout, data),
        _ => panic!("no target {target}"),
    }
}

/// An input from its beginning. Past its end there are zeros.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// Below 240 a byte, else that many bytes more than 239, little-endian.
    fn number(&mut self) -> usize {
        match self.byte() {
            small @ ..240 => usize::from(small),
            more => {
                let bytes = self.take(usize::from(more - 239).min(8));
                bytes.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte)) as usize
            }
        }
    }

    /// At most `count` bytes.
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn scheme(&mut self, format: &str) -> Scheme {
        let flags = self.byte();
        let element = match self.byte() {
            16 => Element::E4m3,
            17 => Element::E2m1,
            bits => Element::Int(u32::from(bits)),
        };
        let strategy = match self.byte() {
            0 => Strategy::Tensor,
            1 => Strategy::Group(self.number()),
            2 => Strategy::TensorGroup(self.number()),
            3 => Strategy::Block(self.number(), self.number()),
            4 => Strategy::Token,
            5 => Strategy::Head,
            _ => Strategy::Channel,
        };
        let scale_type = match self.byte() {
            1 => ScaleType::E4m3,
            2 => ScaleType::Exponent,
            _ => ScaleType::Float,
        };
        let second = (flags & 8 != 0).then(|| {
            let mut bits = || Some(u32::from(self.byte())).filter(|&bits| bits != 0);
            SecondLevel { scale_bits: bits(), zero_bits: bits(), rows: self.number() }
        });
        let args = QuantArgs {
            element,
            symmetric: flags & 1 != 0,
            strategy,
            scale_type,
            dynamic: Dynamic::No,
            actorder: (flags & 4 != 0).then(|| "group".to_string()),
            float_zeros: flags & 2 != 0,
            second,
        };
        let weights = (flags & 32 == 0).then_some(args);
        Scheme { format: format.to_string(), weights, padded: flags & 16 != 0, ..Scheme::dense() }
    }

    /// A name, a type, a shape and bytes for each part, until nothing is left.
    fn parts(&mut self) -> Parts {
        let mut parts = Parts::new();
        while !self.0.is_empty() {
            let name = self.byte();
            let name = self.take(usize::from(name));
            let dtype = DTYPES[usize::from(self.byte()) % DTYPES.len()];
            let dims = self.byte() % 4;
            let shape: Vec<usize> = (0..dims).map(|_| self.number()).collect();
            let bytes = match self.number() {
                // As many as the shape says.
                0 => dtype.bytes_of(&shape).unwrap_or(0),
                count => count - 1,
            };
            let bytes = self.take(bytes).to_vec();
            if let Some(name) = PART_NAMES.iter().find(|known| known.as_bytes() == name) {
                parts.insert(name, Part { dtype, shape, bytes });
            }
        }
        parts
    }
}

/// What decodes is stored again, and the same when it is read back, or refused; and its dense weight is that of its rows.
fn decode(layout: &dyn Layout, data: &[u8]) -> bool {
    let mut input = Input(data);
    let scheme = input.scheme(layout.name());
    let shape = (input.number(), input.number());
    let parts = input.parts();
    let told = layout.shape(&parts);
    if let Err(error) = layout.check_shape(shape.0, shape.1) {
        assert_text(&error);
    }
    let mut good = false;
    for decoded in [layout.decode(&scheme, &parts), layout.decode_shaped(&scheme, &parts, shape)] {
        let c = match decoded {
            Ok(c) => c,
            Err(error) => {
                assert_text(&error);
                continue;
            }
        };
        if let Ok(Some(told)) = told {
            assert_eq!(told, (c.rows, c.cols), "the shape of the parts and of the matrix");
        }
        good = true;
        let dense = c.to_dense();
        assert_eq!(dense.len(), c.rows * c.cols);
        assert_eq!(paring_format::compressed::digest(c.rows, c.cols, &dense), c.digest());
        match layout.encode(&scheme, &c) {
            Ok(again) => {
                let back = layout.decode_shaped(&scheme, &again, (c.rows, c.cols));
                assert_eq!(back.expect("what was stored just now"), c);
            }
            Err(error) => assert_text(&error),
        }
    }
    good
}

/// What parses is written, and the same when it is parsed again.
fn config(data: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return false };
    let config = match QuantConfig::parse(&value) {
        Ok(config) => config,
        Err(error) => {
            assert_text(&error);
            return false;
        }
    };
    let written = config.to_json();
    assert_eq!(QuantConfig::parse(&written).expect("what was written just now"), config, "{written}");
    for module in ["lm_head", "model.layers.0.mlp.down_proj"] {
        if let Err(error) = config.scheme(module) {
            assert_text(&error);
        }
    }
    true
}

/// A folder of this process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("paring-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for files to open");
    folder
});

/// A folder is opened, and everything in it read, by tensor and by module. The input is a kind, the length of config.json,
/// that of the header unless the kind is 0, config.json, and what the file of weights holds: after the eight bytes of
/// the header's length unless the kind is 0.
fn checkpoint(data: &[u8]) -> bool {
    let mut input = Input(data);
    let (kind, config) = (input.byte(), input.number());
    let header = if kind == 0 { None } else { Some(input.number() as u64) };
    let config = input.take(config);
    let weights = [header.map(u64::to_le_bytes).as_ref().map_or(&[][..], |bytes| bytes), input.0].concat();
    for (name, bytes) in [("config.json", config), ("model.safetensors", &weights)] {
        fs::write(FOLDER.join(name), bytes).expect("a file to open");
    }
    let checkpoint = match Checkpoint::open(&FOLDER) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            assert_text(&error);
            return false;
        }
    };
    let mut modules = BTreeSet::new();
    for name in checkpoint.names() {
        let info = checkpoint.info(name).expect("a name that is listed");
        assert!(info.bytes() <= weights.len(), "{name} has {} bytes", info.bytes());
        match checkpoint.read(name) {
            Ok(bytes) => assert_eq!(bytes.len(), info.bytes(), "{name}"),
            Err(error) => assert_text(&error),
        }
        if let Some((module, local)) = name.rsplit_once('.')
            && PART_NAMES.contains(&local)
        {
            modules.insert(module);
        }
    }
    // Each module's tensors are decoded: a file with very many of them would only be slow.
    let mut good = false;
    for module in modules.into_iter().take(8) {
        if let Err(error) = checkpoint.linear_shape(module) {
            assert_text(&error);
        }
        match checkpoint.read_module(module) {
            Ok(_) => good = true,
            Err(error) => assert_text(&error),
        }
    }
    good
}

/// Removes what targets left on disk.
pub fn clean() {
    fs::remove_dir_all(&*FOLDER).expect("the folder of this process");
}

/// Every error has a text. Names out of a file may have line ends, which the program takes out where it prints them.
fn assert_text(error: &Error) {
    assert!(!error.to_string().is_empty(), "{error:?}");
}
