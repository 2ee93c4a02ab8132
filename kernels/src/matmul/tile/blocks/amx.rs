//! The unit of x86-64: AMX, whose eight registers hold a tile each. Its intrinsics are not stable in Rust, its instructions are.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, _xgetbv};
use std::sync::LazyLock;

use super::{From, Operands, SIDE, TILE};

/// True if the processor multiplies tiles of bfloat16, and the system lets this process do it.
pub(in super::super) fn permitted() -> bool {
    static PERMITTED: LazyLock<bool> = LazyLock::new(|| supported() && asked());
    *PERMITTED
}

/// True if the processor has the instructions, and the system keeps their registers for each thread.
fn supported() -> bool {
    /// Bits of EDX of leaf 7: tiles, and their products of bfloat16.
    const INSTRUCTIONS: u32 = 1 << 24 | 1 << 22;
    /// Bits of the first control register: the shape of tiles, and what they hold.
    const STATE: u64 = 1 << 17 | 1 << 18;
    let vectors = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
    if !vectors || !is_x86_feature_detected!("xsave") {
        return false;
    }
    // What has AVX-512 has leaf 7.
    let instructions = __cpuid_count(7, 0).edx & INSTRUCTIONS == INSTRUCTIONS;
    // SAFETY: the processor has `xsave`, and a system that enables AVX-512 has enabled this instruction too.
    instructions && unsafe { kept() } & STATE == STATE
}

/// # Safety
/// Needs `xsave`, enabled by the system.
#[target_feature(enable = "xsave")]
unsafe fn kept() -> u64 {
    // SAFETY: the caller's promise.
    unsafe { _xgetbv(0) }
}

/// Asks the system for room for the registers, once for all threads of this process: Linux keeps none unless asked.
fn asked() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    /// The number of the state of tiles.
    const XTILEDATA: libc::c_long = 18;
    // SAFETY: this call takes two numbers and touches no memory of this process.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
}

/// Bytes between the rows of a tile of the left operand, and of the right one.
const LEFT: usize = 4 * SIDE;
const RIGHT: usize = 4 * super::NR;

/// The operand of `ldtilecfg`: the shapes of eight registers.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static WHOLE: Shapes = Shapes {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// This thread's registers, of 16 rows of 64 bytes each. They are released at the end, so that the system has nothing to keep for a
/// thread that does other work.
pub(super) struct Configured {
    /// Registers belong to a thread.
    _here: std::marker::PhantomData<*const ()>,
}

impl Configured {
    /// # Panics
    /// If AMX may not be used.
    pub fn begin() -> Self {
        assert!(permitted(), "AMX, which this process may not use");
        // SAFETY: the instruction is there, and reads 64 bytes. No compiler keeps anything in these registers.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const WHOLE, options(nostack, readonly, preserves_flags)) };
        Self { _here: std::marker::PhantomData }
    }

    /// The sums of a block at `sums`, in rows of `stride`: four tiles, of which each step along k reads two of both operands.
    ///
    /// # Safety
    /// All tiles lie inside the operands, and there is room for the sums: 32 columns of 32 rows.
    pub unsafe fn block(&self, operands: &Operands<'_>, sums: *mut f32, stride: usize, from: From) {
        let Operands { top, bottom, right, tail } = operands;
        let whole = operands.whole();
        let tail = tail.map_or(std::ptr::null(), <[u32]>::as_ptr);
        // Without whole tiles the last one is the first.
        let (right, count, tail) = if whole > 0 { (right.as_ptr(), whole, tail) } else { (tail, 1, std::ptr::null()) };
        // SAFETY: the caller's promise. The flags and these registers are all that changes beside the sums.
        unsafe {
            asm!(
                "test {there:e}, {there:e}",
                "jz 4f",
                "tileloadd tmm0, [{out} + {out_stride}]",
                "tileloadd tmm1, [{out} + {out_stride} + 64]",
                "tileloadd tmm2, [{below} + {out_stride}]",
                "tileloadd tmm3, [{below} + {out_stride} + 64]",
                "jmp 2f",
                "4:",
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "2:",
                "tileloadd tmm6, [{right} + {right_stride}]",
                "tileloadd tmm4, [{top} + {left_stride}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{bottom} + {left_stride}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{right} + {right_stride} + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {top}, {left_tile}",
                "add {bottom}, {left_tile}",
                "add {right}, {right_tile}",
                "dec {count}",
                "jnz 2b",
                // The last words along k, once.
                "test {tail}, {tail}",
                "jz 3f",
                "mov {right}, {tail}",
                "xor {tail}, {tail}",
                "inc {count}",
                "jmp 2b",
                "3:",
                "tilestored [{out} + {out_stride}], tmm0",
                "tilestored [{out} + {out_stride} + 64], tmm1",
                "tilestored [{below} + {out_stride}], tmm2",
                "tilestored [{below} + {out_stride} + 64], tmm3",
                top = inout(reg) top.as_ptr() => _,
                bottom = inout(reg) bottom.as_ptr() => _,
                right = inout(reg) right => _,
                count = inout(reg) count => _,
                tail = inout(reg) tail => _,
                out = in(reg) sums,
                below = in(reg) sums.wrapping_add(SIDE * stride),
                left_stride = in(reg) LEFT,
                right_stride = in(reg) RIGHT,
                out_stride = in(reg) 4 * stride,
                there = in(reg) u32::from(from == From::There),
                left_tile = const 4 * TILE,
                right_tile = const RIGHT * SIDE,
                options(nostack),
            );
        }
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: the instruction is there.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}
