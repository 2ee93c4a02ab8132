//! Adapters.

use std::path::Path;

use paring_format::Adapter;
use paring_format::names::{ADAPTER_CONFIG, ADAPTER_WEIGHTS};

use super::{Input, assert_text, folder, is_good, put};

/// A folder with an adapter is opened, written and opened again. The input is the length of the settings, the settings, the length
/// of the header of the weights, and what they hold after it.
pub fn adapter(data: &[u8]) -> bool {
    let mut input = Input(data);
    let config = input.number();
    let config = input.take(config);
    let header = input.number() as u64;
    let dir = folder("adapter", &[]);
    put(&dir.join(ADAPTER_CONFIG), config);
    put(&dir.join(ADAPTER_WEIGHTS), &[&header.to_le_bytes(), input.0].concat());
    let adapter = match Adapter::open(&dir) {
        Ok(adapter) => adapter,
        Err(error) => {
            assert_text(&error);
            return false;
        }
    };
    again(&adapter, &folder("adapter-again", &[]))
}

fn again(adapter: &Adapter, dir: &Path) -> bool {
    // A scale of the patterns may overflow.
    if !is_good(adapter.write(dir, true)) {
        return false;
    }
    let read = Adapter::open(dir).expect("what was written just now");
    assert!(read.pairs == adapter.pairs, "an adapter that reads back as another");
    true
}
