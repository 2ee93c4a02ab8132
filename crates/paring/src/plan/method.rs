//! The table of methods: a curvature and a rule each.

/// What a method needs to know of the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing: it runs without calibration data.
    Nothing,
    /// Σ x² of each feature.
    Norms,
    /// Σ x xᵀ.
    Gram,
}

/// Which curvature a method sweeps with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bend {
    /// Every weight costs the same.
    Flat,
    /// A column costs the norm of its feature.
    Diagonal,
    /// The whole Gram matrix.
    Full,
}

/// One method.
#[derive(Clone, Copy, Debug)]
pub struct MethodInfo {
    /// As written on the command line.
    pub name: &'static str,
    /// A line of help.
    pub help: &'static str,
    /// Where it was published.
    pub source: &'static str,
    /// Its curvature.
    pub curvature: Bend,
    /// Whether it can prune.
    pub drops: bool,
    /// Whether it can quantize.
    pub rounds: bool,
}

/// All methods; help, docs and tests iterate over this table.
pub static METHODS: &[MethodInfo] = &[
    MethodInfo {
        name: "magnitude",
        help: "remove the smallest weights of each layer; needs no data",
        source: "Han et al., arXiv 1506.02626",
        curvature: Bend::Flat,
        drops: true,
        rounds: false,
    },
    MethodInfo {
        name: "wanda",
        help: "remove the smallest |weight| x input norm of each row",
        source: "Sun et al., arXiv 2306.11695",
        curvature: Bend::Diagonal,
        drops: true,
        rounds: false,
    },
    MethodInfo {
        name: "sparsegpt",
        help: "remove weights column by column and let the others make up for it; quantizes too with --wbits",
        source: "Frantar and Alistarh, arXiv 2301.00774",
        curvature: Bend::Full,
        drops: true,
        rounds: true,
    },
    MethodInfo {
        name: "rtn",
        help: "round every weight to the nearest grid point; needs no data",
        source: "Frantar et al., arXiv 2210.17323, the baseline",
        curvature: Bend::Flat,
        drops: false,
        rounds: true,
    },
    MethodInfo {
        name: "gptq",
        help: "round column by column and let the later columns make up for the error",
        source: "Frantar et al., arXiv 2210.17323",
        curvature: Bend::Full,
        drops: false,
        rounds: true,
    },
    MethodInfo {
        name: "spqr",
        help: "gptq with small groups, scales and zeros quantized again, and outliers kept exact",
        source: "Dettmers et al., arXiv 2306.03078",
        curvature: Bend::Full,
        drops: false,
        rounds: true,
    },
];

impl MethodInfo {
    /// What the method has to know of the inputs.
    pub fn needs(&self) -> Need {
        match self.curvature {
            Bend::Flat => Need::Nothing,
            Bend::Diagonal => Need::Norms,
            Bend::Full => Need::Gram,
        }
    }
}
