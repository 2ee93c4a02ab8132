//! The table of methods: a curvature and a rule each.

pub use paring_kernels::sweep::Curvature;

/// One method.
#[derive(Clone, Copy, Debug)]
pub struct MethodInfo {
    /// As written on the command line.
    pub name: &'static str,
    /// A line of help.
    pub help: &'static str,
    /// Where it was published.
    pub source: &'static str,
    /// The curvature that it sweeps with, and so the statistics that it needs of the inputs.
    pub curvature: Curvature,
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
        curvature: Curvature::Flat,
        drops: true,
        rounds: false,
    },
    MethodInfo {
        name: "wanda",
        help: "remove the smallest |weight| x input norm of each row",
        source: "Sun et al., arXiv 2306.11695",
        curvature: Curvature::Diagonal,
        drops: true,
        rounds: false,
    },
    MethodInfo {
        name: "sparsegpt",
        help: "remove weights column by column and let the others make up for it; quantizes too with --wbits",
        source: "Frantar and Alistarh, arXiv 2301.00774",
        curvature: Curvature::Full,
        drops: true,
        rounds: true,
    },
    MethodInfo {
        name: "rtn",
        help: "round every weight to the nearest grid point; needs no data",
        source: "Frantar et al., arXiv 2210.17323, the baseline",
        curvature: Curvature::Flat,
        drops: false,
        rounds: true,
    },
    MethodInfo {
        name: "gptq",
        help: "round column by column and let the later columns make up for the error",
        source: "Frantar et al., arXiv 2210.17323",
        curvature: Curvature::Full,
        drops: false,
        rounds: true,
    },
    MethodInfo {
        name: "spqr",
        help: "gptq with small groups, scales and zeros quantized again, and outliers kept exact",
        source: "Dettmers et al., arXiv 2306.03078",
        curvature: Curvature::Full,
        drops: false,
        rounds: true,
    },
];
