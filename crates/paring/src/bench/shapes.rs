//! The shapes that operations are measured at.

/// The layers of a model, and the sizes to measure with.
#[derive(Clone, Copy, Debug)]
pub struct Shapes {
    /// As written on the command line.
    pub name: &'static str,
    /// Rows and columns of its linears, each shape once.
    pub layers: &'static [(usize, usize)],
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and values.
    pub groups: usize,
    /// Size of a head.
    pub head_dim: usize,
    /// Tokens of a batch.
    pub tokens: usize,
    /// Side of the square matrices that the rates of products are measured with.
    pub square: usize,
    /// Bytes that the bandwidth is measured with.
    pub copied: usize,
}

impl Shapes {
    /// Features between two blocks.
    pub fn dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// The numbers of columns, each once, rising.
    pub fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.layers.iter().map(|&(_, cols)| cols).collect();
        widths.sort_unstable();
        widths.dedup();
        widths
    }
}

/// All shapes that can be asked for.
pub static SHAPES: &[Shapes] = &[
    Shapes {
        name: "tiny",
        layers: &[(64, 64), (96, 64), (64, 160)],
        heads: 4,
        groups: 2,
        head_dim: 16,
        tokens: 96,
        square: 96,
        copied: 1 << 16,
    },
    Shapes {
        name: "small",
        layers: &[(512, 512), (1408, 512), (512, 1408)],
        heads: 8,
        groups: 4,
        head_dim: 64,
        tokens: 512,
        square: 1024,
        copied: 64 << 20,
    },
    Shapes {
        name: "smollm2-135m",
        layers: &[(576, 576), (192, 576), (1536, 576), (576, 1536)],
        heads: 9,
        groups: 3,
        head_dim: 64,
        tokens: 8192,
        square: 1024,
        copied: 64 << 20,
    },
    Shapes {
        name: "llama-7b",
        layers: &[(4096, 4096), (11008, 4096), (4096, 11008)],
        heads: 32,
        groups: 32,
        head_dim: 128,
        tokens: 2048,
        square: 8192,
        copied: 1 << 30,
    },
    Shapes {
        name: "llama-3-8b",
        layers: &[(4096, 4096), (1024, 4096), (14336, 4096), (4096, 14336)],
        heads: 32,
        groups: 8,
        head_dim: 128,
        tokens: 2048,
        square: 8192,
        copied: 1 << 30,
    },
];
