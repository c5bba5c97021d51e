//! Texts and prices of the Nexmark model.

use crate::connectors::random::Draws;

impl Draws {
    /// Letters, with `special` for one in thirteen: at least three and fewer than `max`, without blanks at the ends.
    pub(super) fn text(&mut self, max: u64, special: u8, out: &mut Vec<u8>) {
        let start = out.len();
        let length = 3 + self.below(max - 3);
        for _ in 0..length {
            // The integer part tells special from other characters, the rest which letter it is.
            let lot = (self.number() >> 32) * 13;
            let letter = ((lot & 0xffff_ffff) * 26) >> 32;
            out.push(if lot >> 32 == 0 { special } else { b'a' + letter as u8 });
        }
        while out.len() > start && out.last() == Some(&b' ') {
            out.pop();
        }
        let blanks = out[start..].iter().take_while(|byte| **byte == b' ').count();
        out.drain(start..start + blanks);
    }

    /// Filler of `length` characters, in groups of six that go up or down from `a`, as the remainders of a number with a
    /// sign do.
    #[inline]
    pub(super) fn filler(&mut self, length: usize, out: &mut Vec<u8>) {
        const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
        const A: u64 = u64::from_ne_bytes([b'a'; 8]);
        const GROUP: usize = 6;
        let start = out.len();
        out.resize(start + length + 8, 0);
        let mut at = start;
        while at < start + length {
            // Every byte times 26, of which the upper byte is a number below 26: for four bytes at a time.
            let lots = self.number();
            let even = (((lots & EVEN) * 26) >> 8) & EVEN;
            let odd = (((lots >> 8) & EVEN) * 26) & !EVEN;
            let letters = even | odd;
            let word = if lots >> 63 == 0 { A + letters } else { A - letters };
            out[at..at + 8].copy_from_slice(&word.to_le_bytes());
            at += GROUP;
        }
        out.truncate(start + length);
    }

    /// Filler that makes up for what a record has not in size, give or take a fifth.
    #[inline]
    pub(super) fn fill_up(&mut self, size: u64, average: u64, out: &mut Vec<u8>) {
        if size > average {
            return;
        }
        let wanted = average - size;
        let delta = (wanted + 2) / 5;
        let more = if delta == 0 { 0 } else { self.below(2 * delta) };
        self.filler((wanted - delta + more) as usize, out);
    }
}

/// Prices: a hundred times ten to a power that is even between 0 and 6.
pub(super) struct Prices {
    /// 10^(k/64) for all k of six powers of ten.
    powers: Vec<f64>,
}

/// Steps of a power of ten in the table; between them a polynomial is exact enough.
const STEPS: u32 = 64;

impl Prices {
    pub(super) fn new() -> Self {
        let power = |k: u32| 100.0 * 10f64.powf(f64::from(k) / f64::from(STEPS));
        Prices { powers: (0..6 * STEPS).map(power).collect() }
    }

    #[inline]
    pub(super) fn draw(&self, draws: &mut Draws) -> i64 {
        let bits = draws.number();
        let lot = u128::from(bits) * u128::from(6 * STEPS);
        let fraction = (lot as u64 >> 11) as f64 / (1u64 << 53) as f64;
        let x = fraction * (std::f64::consts::LN_10 / f64::from(STEPS));
        let rest = 1.0 + x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0)))));
        (self.powers[(lot >> 64) as usize] * rest).round() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::random::Origin;

    #[test]
    fn prices_are_even_over_six_powers_of_ten() {
        let prices = Prices::new();
        let mut draws = Origin::of(1, 2).field(3);
        let mut powers = [0; 6];
        for _ in 0..60_000 {
            let price = prices.draw(&mut draws);
            powers[(price as f64 / 100.0).log10().floor() as usize] += 1;
        }
        assert!(powers.iter().all(|count| (9_500..10_500).contains(count)), "{powers:?}");
    }

    #[test]
    fn filler_has_all_letters_of_the_model() {
        let mut out = Vec::new();
        Origin::of(0, 0).field(0).filler(60_000, &mut out);
        assert_eq!(out.len(), 60_000);
        let count = |wanted: u8| out.iter().filter(|byte| **byte == wanted).count();
        assert!((b'H'..=b'z').all(|byte| (800..1_500).contains(&count(byte)) || byte == b'a'));
        assert_eq!((b'H'..=b'z').map(count).sum::<usize>(), 60_000);
    }

    #[test]
    fn texts_have_neither_blanks_at_their_ends_nor_other_lengths() {
        let mut draws = Origin::of(5, 6).field(7);
        for _ in 0..1_000 {
            let mut out = b" ".to_vec();
            draws.text(20, b' ', &mut out);
            let text = std::str::from_utf8(&out[1..]).unwrap();
            assert!(text.trim() == text && text.len() < 20);
        }
    }
}
