//! The biases of a block's linears and the tensors of its norms, in one order for all who read, train or write them.

use candle_core::Tensor;

use crate::{Block, BlockInfo, Gradients};

/// A bias, or a stored tensor of a norm.
pub struct Vector<'a> {
    /// Its full name.
    pub name: &'a str,
    /// The name of the linear whose bias it is.
    pub linear: Option<&'a str>,
    /// f32, on the block's device; it may be replaced by one of its shape.
    pub tensor: &'a mut Tensor,
}

/// Shows the biases and the stored tensors of the norms of a block to `see`: first those of linears, fan by fan, then those of norms.
/// Errors are those of `see`.
pub fn each_vector<E>(
    block: &mut dyn Block,
    info: &BlockInfo,
    mut see: impl FnMut(Vector<'_>) -> Result<(), E>,
) -> Result<(), E> {
    for linear in block.fans().into_iter().flat_map(|fan| &mut fan.linears) {
        if let Some(tensor) = &mut linear.bias {
            see(Vector { name: &format!("{}.bias", linear.name), linear: Some(&linear.name), tensor })?;
        }
    }
    for (norm, info) in block.norms().into_iter().zip(&info.norms) {
        for (tensor, name) in norm.tensors().into_iter().zip(&info.tensors) {
            see(Vector { name, linear: None, tensor })?;
        }
    }
    Ok(())
}

impl Gradients {
    /// The gradients of biases and norms, in the order of [`each_vector`].
    pub fn vectors(&self) -> impl Iterator<Item = &[f32]> {
        let biases = self.fans.iter().flatten().filter_map(|linear| linear.bias.as_deref());
        biases.chain(self.norms.iter().flatten().map(Vec::as_slice))
    }
}
