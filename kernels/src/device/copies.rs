//! Tensors of a GPU that wait in host memory.

use candle_core::{Device, Result, Shape, Tensor};

#[cfg(feature = "cuda")]
use crate::cuda::memory as gpu;
use crate::with_f32;

/// Copies f32 tensors between a device and host memory. Those of a GPU run beside its work, in a stream of their own, and
/// the memory is page-locked; work that uses what was copied waits for the copy, and no other work does.
pub struct Copies {
    device: Device,
    #[cfg(feature = "cuda")]
    lane: Option<gpu::Lane>,
}

/// A tensor in host memory.
pub struct Waiting {
    shape: Shape,
    values: Values,
}

enum Values {
    Plain(Vec<f32>),
    #[cfg(feature = "cuda")]
    Locked(gpu::Locked),
}

/// A tensor on its way to a device.
pub struct Coming(Copying);

enum Copying {
    Done(Tensor),
    #[cfg(feature = "cuda")]
    Beside(gpu::Coming),
}

impl Coming {
    /// The tensor. Work of the device that is asked for from now on waits until it is there; work that was asked for before
    /// does not.
    pub fn arrive(self) -> Result<Tensor> {
        match self.0 {
            Copying::Done(tensor) => Ok(tensor),
            #[cfg(feature = "cuda")]
            Copying::Beside(coming) => coming.arrive(),
        }
    }
}

impl Copies {
    /// Copies from and to this device. Errors when the device does.
    pub fn new(device: &Device) -> Result<Self> {
        Ok(Self {
            device: device.clone(),
            #[cfg(feature = "cuda")]
            lane: gpu::Lane::new(device)?,
        })
    }

    /// A copy of `x` (f32) in host memory. Errors when there is not enough of it that can be page-locked.
    pub fn take(&self, x: &Tensor) -> Result<Waiting> {
        #[cfg(feature = "cuda")]
        if let Some(lane) = &self.lane {
            let values = Values::Locked(lane.take(x)?);
            return Ok(Waiting { shape: x.shape().clone(), values });
        }
        let values = Values::Plain(with_f32(x, |values| Ok(values.to_vec()))?);
        Ok(Waiting { shape: x.shape().clone(), values })
    }

    /// Puts a copy of `x` in the place of what waits there. Errors when the shapes differ.
    pub fn replace(&self, waiting: &mut Waiting, x: &Tensor) -> Result<()> {
        if *x.shape() != waiting.shape {
            candle_core::bail!("a tensor {:?} in the place of one of {:?}", x.shape(), waiting.shape);
        }
        match &mut waiting.values {
            Values::Plain(values) => with_f32(x, |x| {
                values.copy_from_slice(x);
                Ok(())
            }),
            #[cfg(feature = "cuda")]
            Values::Locked(locked) => match &self.lane {
                Some(lane) => lane.replace(locked, x),
                None => candle_core::bail!("page-locked memory of a GPU beside {:?}", self.device),
            },
        }
    }

    /// Sends what waits to the device.
    pub fn bring(&self, waiting: &Waiting) -> Result<Coming> {
        let copying = match &waiting.values {
            Values::Plain(values) => Copying::Done(Tensor::from_slice(values, &waiting.shape, &self.device)?),
            #[cfg(feature = "cuda")]
            Values::Locked(locked) => match &self.lane {
                Some(lane) => Copying::Beside(lane.bring(locked, &waiting.shape)?),
                None => candle_core::bail!("page-locked memory of a GPU beside {:?}", self.device),
            },
        };
        Ok(Coming(copying))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::present;

    #[test]
    fn what_waits_comes_back_and_can_be_replaced() {
        for device in &present() {
            let copies = Copies::new(device).unwrap();
            let tensor = |from: f32, shape: (usize, usize)| {
                let values = (0..shape.0 * shape.1).map(|i| from + i as f32).collect();
                Tensor::from_vec(values, shape, device).unwrap()
            };
            let values = |x: &Tensor| x.to_vec2::<f32>().unwrap();
            // Several at once, made and dropped before they arrive.
            let mut waiting: Vec<Waiting> =
                (0..4).map(|i| copies.take(&tensor(i as f32 * 1e3, (7, 33))).unwrap()).collect();
            copies.replace(&mut waiting[2], &tensor(-5.0, (7, 33))).unwrap();
            for (waiting, from) in waiting.iter().zip([0.0, 1e3, -5.0, 3e3]) {
                let back = copies.bring(waiting).unwrap().arrive().unwrap();
                assert!(back.device().same_device(device));
                assert_eq!(values(&back), values(&tensor(from, (7, 33))));
            }
            // Copied before the device gets to what it was asked for earlier: dropping what waits ends all copies.
            let coming = copies.bring(&waiting[1]).unwrap();
            drop(copies.take(&tensor(2e3, (7, 33))).unwrap());
            assert_eq!(values(&coming.arrive().unwrap()), values(&tensor(1e3, (7, 33))));
            // Used at once, joined by a kernel that takes a tensor to belong to the device's stream.
            let parts = waiting.iter().map(|waiting| copies.bring(waiting).unwrap().arrive().unwrap());
            let joined = Tensor::cat(&parts.collect::<Vec<_>>(), 1).unwrap();
            assert_eq!(values(&joined.narrow(1, 33, 33).unwrap()), values(&tensor(1e3, (7, 33))));
            // A part of a tensor.
            let part = copies.take(&tensor(0.5, (6, 4)).narrow(0, 2, 3).unwrap()).unwrap();
            assert_eq!(values(&copies.bring(&part).unwrap().arrive().unwrap()), values(&tensor(8.5, (3, 4))));
            let error = copies.replace(&mut waiting[0], &tensor(0.0, (33, 7))).unwrap_err().to_string();
            assert!(error.contains("[33, 7]") && error.contains("[7, 33]"), "{error}");
        }
    }
}
