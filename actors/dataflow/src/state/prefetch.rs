//! Brings memory into the cache before it is needed. The one place in this crate with unsafe code: a prefetch reads
//! nothing and cannot fault, but the instruction is declared unsafe because it takes a pointer.
#![allow(unsafe_code)]

/// Asks for the cache lines of a value.
#[inline(always)]
pub(super) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = std::ptr::from_ref(value).cast::<i8>();
        // SAFETY: a prefetch has no effect but on the cache; the address is that of a live value, and the last byte's
        // is within it.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(start);
            if size_of::<T>() > 16 {
                _mm_prefetch::<_MM_HINT_T0>(start.add(size_of::<T>() - 1));
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
