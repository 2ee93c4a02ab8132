//! The values of a pickle of tensors.

use crate::Dtype;

/// A value. Those with contents are numbers of places in an [`Arena`](super::machine::Arena): no value owns another
/// one, so that however they are nested, and even in circles, nothing ever walks down them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits, as its bytes.
    Long(&'a [u8]),
    Float,
    Text(&'a str),
    Global(Global),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
}

impl Value<'_> {
    /// For messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) | Value::Long(_) => "an integer",
            Value::Float => "a float",
            Value::Text(_) => "a string",
            Value::Global(_) => "a name",
            Value::Tuple(_) => "a tuple",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dict",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
        }
    }
}

/// Bytes that tensors lie in, which the pickle refers to by key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    pub key: &'a str,
    /// The type of its elements; `None` where it is plain bytes.
    pub dtype: Option<Dtype>,
    /// Elements, or bytes.
    pub count: usize,
}

/// A tensor: part of a storage. Nothing about it has been checked.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    /// Number of its storage.
    pub storage: usize,
    /// Its own type, where the storage has none.
    pub dtype: Option<Dtype>,
    /// Elements before the first one.
    pub offset: usize,
    pub shape: Vec<usize>,
    /// Elements from one index to the next, for each dimension.
    pub strides: Vec<usize>,
}

/// The names that a pickle may use. They stand for what is known about them; nothing is ever looked up or called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    /// `(storage, offset, size, stride, requires_grad, hooks[, metadata])`.
    RebuildTensorV2,
    /// The same with the type after the hooks.
    RebuildTensorV3,
    /// `(tensor, requires_grad, hooks)`.
    RebuildParameter,
    /// A class of storages; without a type, it holds bytes.
    Storage(Option<Dtype>),
    Dtype(Dtype),
}

impl Global {
    /// The meaning of `module.name`; `None` for everything that tensors do not need.
    pub fn find(module: &str, name: &str) -> Option<Global> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensorV2,
            ("torch._utils", "_rebuild_tensor_v3") => Global::RebuildTensorV3,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("torch.storage" | "torch", "UntypedStorage") => Global::Storage(None),
            ("torch", name) => match name.strip_suffix("Storage") {
                Some(prefix) => Global::Storage(Some(storage_type(prefix)?)),
                None => Global::Dtype(dtype(name)?),
            },
            _ => return None,
        })
    }
}

fn storage_type(prefix: &str) -> Option<Dtype> {
    Some(match prefix {
        "Double" => Dtype::F64,
        "Float" => Dtype::F32,
        "Half" => Dtype::F16,
        "BFloat16" => Dtype::Bf16,
        "Long" => Dtype::I64,
        "Int" => Dtype::I32,
        "Short" => Dtype::I16,
        "Char" => Dtype::I8,
        "Byte" => Dtype::U8,
        "Bool" => Dtype::Bool,
        _ => return None,
    })
}

fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "float64" => Dtype::F64,
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::Bf16,
        "float8_e4m3fn" => Dtype::F8E4M3,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "uint32" => Dtype::U32,
        "bool" => Dtype::Bool,
        _ => return None,
    })
}
