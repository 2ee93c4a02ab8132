//! Caches of keys and values of a sequence's earlier tokens.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use crate::minifloat::{e4m3, e4m3_byte, e4m3_number};
use crate::simd::{self, multiversion};
use crate::with_f32;
use half::bf16;

/// The type in which a cache holds keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheType {
    /// 4 bytes a number, nothing is lost.
    F32,
    /// 2 bytes a number.
    Bf16,
    /// 1 byte a number: an 8-bit float ([`crate::minifloat::e4m3`]) times a scale.
    E4m3,
}

/// Keys and values of one attention for one sequence, in the order of positions. A clone is a fork of the sequence.
#[derive(Clone)]
pub struct KeyValues {
    groups: usize,
    dim: usize,
    len: usize,
    cache_type: CacheType,
    store: Store,
}

#[derive(Clone)]
enum Store {
    /// A plane for each group, so that an attention reads what it needs in one go.
    Host { keys: Vec<Plane>, values: Vec<Plane> },
    /// `[len, groups, dim]`; `None` while it is empty.
    Device { device: Device, both: Option<[Tensor; 2]> },
}

/// The numbers `[len, dim]` of one group.
#[derive(Clone)]
pub(super) enum Plane {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    E4m3 { codes: Vec<u8>, scale: f32 },
}

impl Plane {
    fn new(cache_type: CacheType, scale: f32) -> Self {
        match cache_type {
            CacheType::F32 => Plane::F32(Vec::new()),
            CacheType::Bf16 => Plane::Bf16(Vec::new()),
            CacheType::E4m3 => Plane::E4m3 { codes: Vec::new(), scale },
        }
    }

    fn push(&mut self, numbers: &[f32]) {
        match self {
            Plane::F32(all) => all.extend_from_slice(numbers),
            Plane::Bf16(all) => all.extend(numbers.iter().map(|&v| bf16::from_f32(v))),
            Plane::E4m3 { codes, scale } => codes.extend(numbers.iter().map(|&v| e4m3_byte(e4m3(v / *scale)))),
        }
    }

    fn prefix(&self, len: usize) -> Self {
        match self {
            Plane::F32(all) => Plane::F32(all[..len.min(all.len())].to_vec()),
            Plane::Bf16(all) => Plane::Bf16(all[..len.min(all.len())].to_vec()),
            Plane::E4m3 { codes, scale } => {
                Plane::E4m3 { codes: codes[..len.min(codes.len())].to_vec(), scale: *scale }
            }
        }
    }

    fn truncate(&mut self, len: usize) {
        match self {
            Plane::F32(all) => all.truncate(len),
            Plane::Bf16(all) => all.truncate(len),
            Plane::E4m3 { codes, .. } => codes.truncate(len),
        }
    }

    /// Some of the numbers, in `space` where they are not stored as they are.
    pub(super) fn read<'a>(&'a self, range: Range<usize>, space: &'a mut Vec<f32>) -> &'a [f32] {
        let len = range.len();
        if space.len() < len {
            space.resize(len, 0.0);
        }
        match self {
            Plane::F32(all) => return &all[range],
            Plane::Bf16(all) => widen_bf16(&all[range], &mut space[..len]),
            Plane::E4m3 { codes, scale } => widen_e4m3(&codes[range], *scale, &mut space[..len]),
        }
        &space[..len]
    }

    /// True if bfloat16 has all numbers that it holds.
    pub(super) fn is_bf16(&self) -> bool {
        matches!(self, Plane::Bf16(_))
    }
}

multiversion! {
    fn widen_bf16(numbers: &[bf16], out: &mut [f32]) {
        for (out, number) in out.iter_mut().zip(numbers) {
            *out = f32::from_bits(u32::from(number.to_bits()) << 16);
        }
    }
}

multiversion! {
    fn widen_e4m3(codes: &[u8], scale: f32, out: &mut [f32]) {
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = e4m3_number(code) * scale;
        }
    }
}

multiversion! {
    /// Each number rounded to bfloat16.
    pub(super) fn round_bf16(numbers: &[f32], out: &mut [f32]) {
        for (out, &number) in out.iter_mut().zip(numbers) {
            *out = simd::round_bf16(number);
        }
    }
}

/// The first `len` positions of keys and values.
fn narrowed(both: Option<&[Tensor; 2]>, len: usize) -> Result<Option<[Tensor; 2]>> {
    match both {
        Some([keys, values]) if len > 0 => Ok(Some([keys.narrow(0, 0, len)?, values.narrow(0, 0, len)?])),
        _ => Ok(None),
    }
}

impl KeyValues {
    /// An empty cache for `groups` heads of keys and of values, `dim` numbers each, on a device. `scales` are those of
    /// keys and of values of [`CacheType::E4m3`], one for all heads or one for each; other types ignore them. Errors on
    /// another number of scales, and on a GPU for [`CacheType::E4m3`].
    pub fn new(
        cache_type: CacheType,
        groups: usize,
        dim: usize,
        [keys, values]: [&[f32]; 2],
        device: &Device,
    ) -> Result<Self> {
        let planes = |scales: &[f32]| -> Result<Vec<Plane>> {
            if cache_type == CacheType::E4m3 && scales.len() != 1 && scales.len() != groups {
                candle_core::bail!("a cache of {groups} heads with {} scales", scales.len());
            }
            let scale = |group: usize| scales.get(group).or(scales.first()).copied().unwrap_or(1.0);
            Ok((0..groups).map(|group| Plane::new(cache_type, scale(group))).collect())
        };
        if groups == 0 || dim == 0 {
            candle_core::bail!("a cache of {groups} heads of {dim} numbers");
        }
        let store = match device {
            Device::Cpu => Store::Host { keys: planes(keys)?, values: planes(values)? },
            _ if cache_type == CacheType::E4m3 => {
                candle_core::bail!("a cache of 8-bit floats on a GPU, which only CPUs hold; choose bfloat16")
            }
            device => Store::Device { device: device.clone(), both: None },
        };
        Ok(Self { groups, dim, len: 0, cache_type, store })
    }

    /// Positions in the cache.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if the cache holds no position.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Heads of keys, and numbers of each.
    pub fn heads(&self) -> (usize, usize) {
        (self.groups, self.dim)
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        let number = match self.cache_type {
            CacheType::F32 => 4,
            CacheType::Bf16 => 2,
            CacheType::E4m3 => 1,
        };
        2 * self.len * self.groups * self.dim * number
    }

    /// Appends the keys and values of the next positions, f32 `[n, groups, dim]`, rounded to the cache's type. Errors on
    /// other shapes. On a GPU all that is there is copied.
    pub fn append(&mut self, keys: &Tensor, values: &Tensor) -> Result<()> {
        let (n, groups, dim) = keys.dims3()?;
        if (groups, dim) != (self.groups, self.dim) || values.dims() != keys.dims() {
            let (keys, values) = (keys.shape(), values.shape());
            candle_core::bail!(
                "keys {keys:?} and values {values:?} for a cache of {} heads of {}",
                self.groups,
                self.dim
            );
        }
        // A GPU has no tensors without elements.
        if n == 0 {
            return Ok(());
        }
        match &mut self.store {
            Store::Host { keys: key_planes, values: value_planes } => {
                for (planes, numbers) in [(key_planes, keys), (value_planes, values)] {
                    with_f32(numbers, |numbers| {
                        for token in numbers.chunks_exact(groups * dim) {
                            planes.iter_mut().zip(token.chunks_exact(dim)).for_each(|(plane, head)| plane.push(head));
                        }
                        Ok(())
                    })?;
                }
            }
            Store::Device { device, both } => {
                let dtype = if self.cache_type == CacheType::Bf16 { DType::BF16 } else { DType::F32 };
                let new = [keys, values].map(|x| x.to_device(device).and_then(|x| x.to_dtype(dtype)));
                let [keys, values] = new;
                let new = [keys?, values?];
                *both = Some(match both.take() {
                    None => new,
                    Some([k, v]) => [Tensor::cat(&[&k, &new[0]], 0)?, Tensor::cat(&[&v, &new[1]], 0)?],
                });
            }
        }
        self.len += n;
        Ok(())
    }

    /// A copy of the first `len` positions. On a GPU it shares their memory.
    pub fn prefix(&self, len: usize) -> Result<Self> {
        let len = len.min(self.len);
        let store = match &self.store {
            Store::Host { keys, values } => {
                let of = |planes: &[Plane]| planes.iter().map(|plane| plane.prefix(len * self.dim)).collect();
                Store::Host { keys: of(keys), values: of(values) }
            }
            Store::Device { device, both } => {
                Store::Device { device: device.clone(), both: narrowed(both.as_ref(), len)? }
            }
        };
        Ok(Self { len, store, ..*self })
    }

    /// Forgets the positions from `len` on.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        if len >= self.len {
            return Ok(());
        }
        match &mut self.store {
            Store::Host { keys, values } => {
                keys.iter_mut().chain(values).for_each(|plane| plane.truncate(len * self.dim));
            }
            Store::Device { both, .. } => *both = narrowed(both.take().as_ref(), len)?,
        }
        self.len = len;
        Ok(())
    }

    /// The planes of a group in host memory, of keys and of values; `None` for a cache on a GPU.
    pub(super) fn planes(&self, group: usize) -> Option<[&Plane; 2]> {
        match &self.store {
            Store::Host { keys, values } => Some([keys.get(group)?, values.get(group)?]),
            Store::Device { .. } => None,
        }
    }

    /// Keys and values as f32 `[1, len, groups, dim]`: those of a cache in device memory that is not empty.
    #[cfg(feature = "cuda")]
    pub(super) fn tensors(&self) -> Result<Option<[Tensor; 2]>> {
        let Store::Device { both: Some([k, v]), .. } = &self.store else { return Ok(None) };
        let whole = |x: &Tensor| x.to_dtype(DType::F32)?.unsqueeze(0)?.contiguous();
        Ok(Some([whole(k)?, whole(v)?]))
    }
}
