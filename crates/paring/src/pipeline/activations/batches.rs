//! Batches of activations, on the device that computes, in the memory of the host, or in a file.

use candle_core::Tensor;
use paring_kernels::device::{Coming, Copies, Waiting};

use super::Storage;
use super::spill::Spill;
use crate::pipeline::device::DeviceBudget;
use crate::{Error, Result};

/// The place of a batch.
enum Place {
    /// On the device that computes.
    Here(Tensor),
    /// In the memory of the host, for a GPU.
    Host(Waiting),
    /// In the file, at this number.
    Disk(usize),
}

/// Batches `[b, t, dim]`, of any sizes.
pub struct Batches {
    places: Vec<Place>,
    /// Host memory for a GPU's batches.
    copies: Option<Copies>,
    spill: Option<Spill>,
    budget: DeviceBudget,
}

impl Batches {
    /// The batches that `next` makes, until it makes none.
    pub fn fill(storage: &Storage<'_>, doing: &str, mut next: impl FnMut() -> Result<Option<Tensor>>) -> Result<Self> {
        let device = storage.budget.device();
        let failed = |error: Error| storage.budget.with_context(error, doing);
        let leave = !storage.on_device && !device.is_cpu();
        let copies = if leave { Some(Copies::new(device).map_err(|e| failed(e.into()))?) } else { None };
        let mut batches = Self { places: Vec::new(), copies, spill: None, budget: storage.budget.clone() };
        let mut bytes = 0;
        while let Some(batch) = next().map_err(failed)? {
            bytes += batch.elem_count() * size_of::<f32>();
            let disk = storage.disk.filter(|(_, resident)| bytes > *resident && (leave || device.is_cpu()));
            let place = match (disk, &batches.copies) {
                (Some((dir, _)), _) => {
                    let spill = match &mut batches.spill {
                        Some(spill) => spill,
                        None => batches.spill.insert(Spill::create(dir)?),
                    };
                    spill.push(&batch)?;
                    Place::Disk(spill.len() - 1)
                }
                (None, Some(copies)) => Place::Host(copies.take(&batch).map_err(|e| failed(e.into()))?),
                (None, None) => Place::Here(batch),
            };
            batches.places.push(place);
        }
        Ok(batches)
    }

    /// The memory of the device that computes.
    pub fn budget(&self) -> &DeviceBudget {
        &self.budget
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Number of batches in the file.
    #[cfg(test)]
    pub fn spilled(&self) -> usize {
        self.spill.as_ref().map_or(0, Spill::len)
    }

    /// Batch `i`, on the device that computes.
    pub fn get(&self, i: usize) -> Result<Tensor> {
        match (self.places.get(i), &self.copies, &self.spill) {
            (Some(Place::Here(batch)), ..) => Ok(batch.clone()),
            (Some(Place::Host(waiting)), Some(copies), _) => Ok(copies.bring(waiting)?.arrive()?),
            (Some(Place::Disk(at)), _, Some(spill)) => spill.get(*at, self.budget.device()),
            _ => Err(Error::Plan(format!("batch {i} of {}", self.places.len()))),
        }
    }

    /// Batch `i` where it can be on its way while another one is worked on.
    fn early(&self, i: usize) -> Result<Option<Coming>> {
        match (self.places.get(i), &self.copies) {
            (Some(Place::Host(waiting)), Some(copies)) => Ok(Some(copies.bring(waiting)?)),
            _ => Ok(None),
        }
    }

    /// Batch `i`, which may have been sent early.
    fn arrived(&self, i: usize, early: Option<Coming>) -> Result<Tensor> {
        match early {
            Some(coming) => Ok(coming.arrive()?),
            None => self.get(i),
        }
    }

    /// Calls `f` with each batch, in order.
    pub fn each(&self, mut f: impl FnMut(&Tensor) -> Result<()>) -> Result<()> {
        let mut next = self.early(0)?;
        for i in 0..self.len() {
            let batch = self.arrived(i, next)?;
            next = self.early(i + 1)?;
            f(&batch)?;
        }
        Ok(())
    }

    /// Replaces each batch by what `f` makes of it, of the same shape.
    pub fn advance(&mut self, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<()> {
        let mut next = self.early(0)?;
        for i in 0..self.len() {
            let batch = self.arrived(i, next)?;
            next = self.early(i + 1)?;
            let made = f(&batch)?;
            drop(batch);
            match (&mut self.places[i], &self.copies, &mut self.spill) {
                (Place::Host(waiting), Some(copies), _) => copies.replace(waiting, &made)?,
                (Place::Disk(at), _, Some(spill)) => spill.set(*at, &made)?,
                (place, ..) => *place = Place::Here(made),
            }
        }
        Ok(())
    }
}
