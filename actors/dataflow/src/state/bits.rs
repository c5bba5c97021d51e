//! A set of small numbers, one bit each. Takes no memory while it is empty.

/// The numbers that are in the set.
#[derive(Default, Clone, Debug)]
pub(super) struct Bits(Box<[u64]>);

impl Bits {
    /// Whether a number is in the set.
    #[inline(always)]
    pub(super) fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 != 0)
    }

    /// Adds a number below `size`.
    #[inline]
    pub(super) fn add(&mut self, at: usize, size: usize) {
        if self.0.len() * 64 <= at {
            let mut words = vec![0; size.max(at + 1).div_ceil(64)];
            words[..self.0.len()].copy_from_slice(&self.0);
            self.0 = words.into();
        }
        self.0[at / 64] |= 1 << (at % 64);
    }

    /// Takes a number out.
    #[inline]
    pub(super) fn remove(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word &= !(1 << (at % 64));
        }
    }

    /// The numbers from `64 * index` on, as 64 bits.
    #[inline]
    pub(super) fn word(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or(0)
    }

    /// Whether nothing was ever added.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_there_whatever_the_size_was_when_it_was_added() {
        let mut bits = Bits::default();
        assert!(bits.is_empty() && !bits.has(0));
        bits.add(3, 10);
        bits.add(130, 100);
        assert!(bits.has(3) && bits.has(130) && !bits.has(2) && !bits.has(1_000));
        assert_eq!((bits.word(0), bits.word(1), bits.word(2), bits.word(9)), (8, 0, 4, 0));
        bits.remove(3);
        bits.remove(1_000);
        assert!(!bits.has(3) && bits.has(130));
    }
}
