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

/// The promise of [`PoolingAllocator`], on requests, mappings and releases at random: mappings in use and in the pool
/// together take at most the reserve more than were ever in use at once; every mapping is in use, in the pool or unmapped.
#[test]
fn the_pool_holds_no_more_than_its_reserve_beyond_the_peak() {
    const MIB: usize = 1 << 20;
    let mut pool = Pool::EMPTY;
    let mut used: Vec<(usize, usize)> = Vec::new();
    let mut pooled: Vec<(usize, usize)> = Vec::new();
    let (mut peak, mut fresh, mut reused, mut evicted) = (0, 0, 0, 0);
    let bytes = |mappings: &[(usize, usize)]| mappings.iter().map(|mapping| mapping.1).sum::<usize>();
    let mut seed = 1u64;
    let mut draw = |below: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize % below
    };
    for _ in 0..20_000 {
        let mut gone = Vec::new();
        if used.len() > draw(8) {
            let mapping = used.swap_remove(draw(used.len()));
            pooled.push(mapping);
            gone.extend(pool.release(mapping));
        } else {
            let class = Pool::class((1 + draw(20)) * MIB);
            let address = match pool.reuse(class) {
                Some(address) => {
                    // The last of this size that was freed.
                    let last = pooled.iter().rposition(|mapping| mapping.1 == class).unwrap();
                    assert_eq!(pooled.remove(last), (address, class));
                    reused += 1;
                    address
                }
                None => {
                    assert!(pooled.iter().all(|mapping| mapping.1 != class), "{class} is in the pool");
                    fresh += 1;
                    pool.count(class);
                    fresh * PAGE
                }
            };
            used.push((address, class));
        }
        gone.extend(std::iter::from_fn(|| pool.evict_excess()));
        for mapping in gone {
            // The one that was freed first.
            assert_eq!(pooled.remove(0), mapping);
            evicted += 1;
        }
        peak = peak.max(bytes(&used));
        assert_eq!(pool.free_bytes(), bytes(&pooled));
        assert!(bytes(&used) + bytes(&pooled) <= POOL_RESERVE + peak);
    }
    assert!(reused > 1000 && evicted > 1000, "{reused} reused, {evicted} evicted");
}

#[test]
fn the_pool_evicts_only_what_is_too_much() {
    let mut pool = Pool::EMPTY;
    pool.count(POOL_RESERVE);
    pool.count(PAGE);
    assert_eq!(pool.release((1, POOL_RESERVE)), None);
    assert_eq!(pool.release((2, PAGE)), None);
    // The peak was all of this, so that as much less a page may be in use beside it.
    assert_eq!(pool.evict_excess(), None);
    pool.count(POOL_RESERVE);
    assert_eq!(pool.evict_excess(), None);
    pool.count(PAGE);
    // A release changes nothing in the sum.
    assert_eq!(pool.release((3, PAGE)), None);
    assert_eq!(pool.evict_excess(), Some((1, POOL_RESERVE)));
    assert_eq!(pool.evict_excess(), None);
    assert_eq!(pool.free_bytes(), 2 * PAGE);
    assert_eq!([pool.evict(), pool.evict(), pool.evict()], [Some((2, PAGE)), Some((3, PAGE)), None]);
}

#[test]
fn a_mapping_is_reused_for_its_size_alone_the_last_one_first() {
    let mut pool = Pool::EMPTY;
    for (address, class) in [(1, LARGE), (2, 2 * LARGE), (3, LARGE)] {
        pool.count(class);
        assert_eq!(pool.release((address, class)), None);
    }
    assert_eq!(pool.reuse(3 * LARGE), None);
    assert_eq!([pool.reuse(LARGE), pool.reuse(LARGE), pool.reuse(LARGE)], [Some(3), Some(1), None]);
    assert_eq!(pool.free_bytes(), 2 * LARGE);
}

#[test]
fn without_a_slot_the_oldest_mapping_goes() {
    let mut pool = Pool::EMPTY;
    for address in 1..=64 {
        pool.count(LARGE);
        assert_eq!(pool.release((address, LARGE)), None);
    }
    pool.count(LARGE);
    assert_eq!(pool.release((65, LARGE)), Some((1, LARGE)));
    assert_eq!(pool.free_bytes(), 64 * LARGE);
    assert_eq!(pool.reuse(LARGE), Some(65));
}

/// More than any system maps.
#[cfg(target_os = "linux")]
const ABSURD: usize = 1 << 60;

#[cfg(target_os = "linux")]
#[test]
fn a_refused_request_leaves_the_bound_as_it_was() {
    let mappings = large::Mappings::new();
    let largest = 60 << 20;
    for refused in [false, true] {
        if refused {
            assert!(mappings.alloc(ABSURD).0.is_null());
        }
        // Each block is of another size and the only one in use, so the peak is the largest.
        for size in (30 << 20..=largest).step_by(2 << 20) {
            let (block, _) = mappings.alloc(size);
            assert!(!block.is_null());
            // SAFETY: made for this size.
            unsafe { mappings.free(block, size) };
            assert!(mappings.pooled_bytes() <= POOL_RESERVE + largest, "{} bytes", mappings.pooled_bytes());
        }
        assert!(mappings.pooled_bytes() > POOL_RESERVE, "{} bytes", mappings.pooled_bytes());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_request_that_is_refused_has_the_pool_emptied_first() {
    let mappings = large::Mappings::new();
    let (block, fresh) = mappings.alloc(LARGE);
    assert!(fresh);
    // SAFETY: made for this size.
    unsafe { mappings.free(block, LARGE) };
    assert_eq!(mappings.pooled_bytes(), LARGE);
    assert_eq!(mappings.alloc(ABSURD), (std::ptr::null_mut(), true));
    assert_eq!(mappings.pooled_bytes(), 0);
    // A program that asks in vain learns it.
    let layout = Layout::from_size_align(ABSURD, 64).unwrap();
    // SAFETY: a layout that is not empty; no block is made.
    unsafe {
        assert!(PoolingAllocator.alloc(layout).is_null());
        assert!(PoolingAllocator.alloc_zeroed(layout).is_null());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_refused_realloc_leaves_the_block() {
    for size in [LARGE - 1, LARGE] {
        // SAFETY: the layouts are not empty; the block is freed with the layout it was made for.
        unsafe {
            let block = PoolingAllocator.alloc(layout(size));
            bytes(block, size).fill(7);
            assert!(PoolingAllocator.realloc(block, layout(size), ABSURD).is_null());
            assert!(bytes(block, size).iter().all(|&b| b == 7));
            PoolingAllocator.dealloc(block, layout(size));
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn alignments_beyond_a_page_are_the_systems() {
    for align in [PAGE, 2 * PAGE, 8 * PAGE] {
        let layout = Layout::from_size_align(2 * LARGE, align).unwrap();
        assert_eq!(large::takes(layout), align == PAGE);
        // SAFETY: the layout is not empty; the block is freed with the layout it was made for.
        unsafe {
            let block = PoolingAllocator.alloc_zeroed(layout);
            assert_eq!(block.addr() % align, 0);
            assert!(bytes(block, layout.size()).iter().all(|&b| b == 0));
            PoolingAllocator.dealloc(block, layout);
        }
    }
}
