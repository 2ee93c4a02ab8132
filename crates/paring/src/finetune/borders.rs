//! The activations between blocks that a backward pass comes back to.

use std::path::PathBuf;

use candle_core::{Device, Tensor};

use crate::pipeline::activations::Spill;
use crate::{Error, Result};

/// The place of the activations of a batch.
enum Place {
    Memory(Tensor),
    /// The number in the file.
    Disk(usize),
}

/// Activations `[b, t, dim]` by border and batch; those that do not fit into memory wait in a file.
pub(super) struct Borders {
    dir: PathBuf,
    /// Bytes that may still stay in memory.
    room: usize,
    places: Vec<Vec<Place>>,
    spill: Option<Spill>,
}

impl Borders {
    /// None yet; `resident` bytes stay in memory, the rest goes to a file in `dir`.
    pub fn new(dir: PathBuf, resident: usize) -> Self {
        Self { dir, room: resident, places: Vec::new(), spill: None }
    }

    /// Adds the next border.
    pub fn open(&mut self) {
        self.places.push(Vec::new());
    }

    /// Adds the next batch of the last border.
    pub fn push(&mut self, x: &Tensor) -> Result<()> {
        let bytes = x.elem_count() * size_of::<f32>();
        let place = if bytes <= self.room {
            self.room -= bytes;
            Place::Memory(x.clone())
        } else {
            let spill = match &mut self.spill {
                Some(spill) => spill,
                None => self.spill.insert(Spill::create(&self.dir)?),
            };
            spill.push(x)?;
            Place::Disk(spill.len() - 1)
        };
        match self.places.last_mut() {
            Some(border) => border.push(place),
            None => return Err(Error::Plan("activations of no border".into())),
        }
        Ok(())
    }

    /// The activations of a batch at a border.
    pub fn get(&self, border: usize, batch: usize) -> Result<Tensor> {
        match (self.places.get(border).and_then(|border| border.get(batch)), &self.spill) {
            (Some(Place::Memory(x)), _) => Ok(x.clone()),
            (Some(Place::Disk(at)), Some(spill)) => spill.get(*at, &Device::Cpu),
            _ => Err(Error::Plan(format!("batch {batch} at border {border}, which is not kept"))),
        }
    }

    /// Forgets the last border that is kept, whose memory may be used again.
    pub fn close(&mut self) {
        for place in self.places.pop().into_iter().flatten() {
            if let Place::Memory(x) = place {
                self.room += x.elem_count() * size_of::<f32>();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_come_back_from_memory_and_disk() {
        let dir = tempfile::tempdir().unwrap();
        let x = |v: f32| Tensor::full(v, (1, 2, 3), &Device::Cpu).unwrap();
        let mut borders = Borders::new(dir.path().to_path_buf(), 2 * 24);
        assert!(borders.push(&x(0.0)).is_err());
        for border in 0..3 {
            borders.open();
            borders.push(&x(border as f32)).unwrap();
        }
        for border in 0..3 {
            let values = borders.get(border, 0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values, [border as f32; 6]);
        }
        assert!(borders.get(3, 0).is_err() && borders.get(0, 1).is_err());
        borders.close();
        assert!(borders.get(2, 0).is_err());
    }
}
