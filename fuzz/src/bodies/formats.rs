//! Configurations of quantizations, and layouts.

use paring_format::layouts::part_names;
use paring_format::{
    Dtype, Dynamic, Element, Layout, LayoutPart, LayoutParts, QuantArgs, QuantConfig, ScaleType, Scheme, SecondLevel,
    Strategy,
};
use serde_json::Value;

use super::{Input, assert_text};

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

impl Input<'_> {
    fn scheme(&mut self, format: &str) -> Scheme {
        let flags = self.byte();
        let element = match self.byte() {
            16 => Element::E4m3,
            17 => Element::E2m1,
            18 => Element::E2m3,
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
    fn parts(&mut self) -> LayoutParts {
        let mut parts = LayoutParts::new();
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
            if let Some(name) = part_names().iter().find(|known| known.as_bytes() == name) {
                parts.insert(name, LayoutPart { dtype, shape, bytes });
            }
        }
        parts
    }
}

/// Decodes, stores again and reads back the same, or refuses; the dense weight is that of its rows.
pub fn decode(layout: &dyn Layout, data: &[u8]) -> bool {
    let mut input = Input(data);
    let scheme = input.scheme(layout.name());
    let shape = (input.number(), input.number());
    let parts = input.parts();
    let told = layout.shape(&parts);
    if let Err(error) = layout.check_shape(shape.0, shape.1) {
        assert_text(&error);
    }
    let mut good = false;
    for decoded in [layout.decode(&scheme, parts.clone()), layout.decode_shaped(&scheme, parts.clone(), shape)] {
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
                let back = layout.decode_shaped(&scheme, again, (c.rows, c.cols));
                assert_eq!(back.expect("what was stored just now"), c);
            }
            Err(error) => assert_text(&error),
        }
    }
    good
}

/// Parses, writes, and parses the same again.
pub fn config(data: &[u8]) -> bool {
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
