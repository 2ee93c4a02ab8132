//! The blocks that the allocator hands out: their contents, and their sizes.

use super::*;

/// Bytes around every step of the classes, from small to large.
const SIZES: [usize; 6] = [17, LARGE - 1, LARGE, LARGE + 1, 3 << 20, (4 << 20) - 5];

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 64).unwrap()
}

/// Every byte of a block of `size` bytes.
fn bytes<'a>(block: *mut u8, size: usize) -> &'a mut [u8] {
    assert!(!block.is_null());
    // SAFETY: the tests ask with the size the block was made for, and once at a time.
    unsafe { std::slice::from_raw_parts_mut(block, size) }
}

#[test]
fn a_block_that_was_used_comes_back_as_zeros_when_zeros_are_asked_for() {
    for size in SIZES {
        for _ in 0..3 {
            // SAFETY: the layout is not empty; the block is freed with the layout it was made for.
            unsafe {
                let block = PoolingAllocator.alloc_zeroed(layout(size));
                assert!(bytes(block, size).iter().all(|&b| b == 0), "{size}");
                bytes(block, size).fill(0xAB);
                PoolingAllocator.dealloc(block, layout(size));
            }
        }
    }
}

#[test]
fn realloc_keeps_the_bytes_that_fit() {
    for from in SIZES {
        for to in SIZES {
            // SAFETY: as above.
            unsafe {
                let block = PoolingAllocator.alloc(layout(from));
                for (i, b) in bytes(block, from).iter_mut().enumerate() {
                    *b = (i % 251) as u8;
                }
                let moved = PoolingAllocator.realloc(block, layout(from), to);
                assert_eq!(moved.addr() % 64, 0);
                let kept = from.min(to);
                assert!(bytes(moved, kept).iter().enumerate().all(|(i, &b)| b == (i % 251) as u8), "{from} to {to}");
                bytes(moved, to).fill(1);
                PoolingAllocator.dealloc(moved, layout(to));
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_mapping_is_at_most_an_eighth_larger_than_asked_for() {
    for size in SIZES.into_iter().filter(|&s| s >= LARGE) {
        let class = Pool::class(size);
        assert!(size <= class && class <= size + size / 8 && class.is_multiple_of(4096), "{size}: {class}");
        assert_eq!(Pool::class(class), class);
    }
}
