//! Finds all places of some bytes in a text, some hundred bytes of it at once, so that what cuts the text there needs
//! one look at a list for each piece instead of a search. The one place of this crate with unsafe code: the list is not
//! cleared before it is filled, which would take as long as filling it; processors that have instructions for it write
//! it 64 bytes at a time, at a pointer; and what lies between two such bytes of a text is text, which need not be found
//! out anew.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use wide::u8x32;

/// Bytes of text looked at in one step.
const CHUNK_BYTES: usize = 64;

/// Bytes of text whose places are in the list at one time.
pub(crate) const WINDOW_BYTES: usize = 8 * CHUNK_BYTES;

/// A byte that nobody looks for.
const NOT_WANTED: u8 = 0x7f;

type List = [MaybeUninit<u16>; WINDOW_BYTES];

/// Which bytes are looked for: one above all, and others. All are ASCII.
pub(crate) trait Wanted {
    const FIRST: u8;
    const OTHERS: &'static [u8];
    /// All bytes below are wanted too.
    const BELOW: u8;
}

/// The places in a text, in order.
pub(crate) struct Places<'t, W> {
    text: &'t str,
    /// Where the window begins.
    base: usize,
    /// The next place that was not asked for yet.
    next: usize,
    /// How many places there are in the window. So many of the list are filled.
    count: usize,
    /// The same if they are all of the first byte wanted, else nought.
    firsts: usize,
    /// Where the next piece begins, if there is another.
    start: Option<usize>,
    /// Relative to `base`.
    list: List,
    wanted: PhantomData<W>,
}

impl<'t, W: Wanted> Places<'t, W> {
    #[inline(always)]
    pub(crate) fn new(text: &'t str) -> Self {
        let list = [const { MaybeUninit::uninit() }; WINDOW_BYTES];
        Places { text, base: 0, next: 0, count: 0, firsts: 0, start: Some(0), list, wanted: PhantomData }
    }

    /// Looks at the window that begins at `base`. To be called first, once this lies where it stays.
    #[inline(always)]
    pub(crate) fn look(&mut self, base: usize) {
        let rest = self.text.as_bytes().get(base..).unwrap_or_default();
        let (count, are_firsts) = fill::<W>(&rest[..rest.len().min(WINDOW_BYTES)], &mut self.list);
        (self.base, self.next, self.count) = (base, 0, count);
        self.firsts = if are_firsts { count } else { 0 };
    }

    /// The next place.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<usize> {
        while self.next >= self.count {
            if self.text.len() - self.base <= WINDOW_BYTES {
                return None;
            }
            self.look(self.base + WINDOW_BYTES);
        }
        // SAFETY: `fill` has filled the first `count`, which are no more than the list has.
        let place = unsafe { self.list.get_unchecked(self.next).assume_init() };
        self.next += 1;
        Some(self.base + usize::from(place))
    }

    /// The first place from `start` on, and past those that were returned before.
    #[inline(always)]
    pub(crate) fn from(&mut self, start: usize) -> Option<usize> {
        loop {
            let place = self.next()?;
            if place >= start {
                return Some(place);
            }
        }
    }

    /// What lies between two quotes of which the first is at `start`, and between two more that follow behind a colon,
    /// if the window holds them; and where the text goes on.
    #[inline(always)]
    pub(crate) fn pair(&mut self, start: usize) -> Option<(&'t str, &'t str, usize)> {
        if self.next + 4 > self.firsts {
            return None;
        }
        // SAFETY: `fill` has filled the first `count`, of which there are four more.
        let places = unsafe { self.list.as_ptr().add(self.next).cast::<[u16; 4]>().read_unaligned() };
        let [open, close, value_open, value_close] = places.map(|place| self.base + usize::from(place));
        if open != start || value_open != close + 2 || self.text.as_bytes().get(close + 1) != Some(&b':') {
            return None;
        }
        self.next += 4;
        // SAFETY: these are places of one and the same ASCII character in the text, in rising order, as `fill` has found.
        // It has one byte, so that other characters begin behind it and end before it.
        let between = |open: usize, close: usize| unsafe { self.text.get_unchecked(open + 1..close) };
        Some((between(open, close), between(value_open, value_close), value_close + 1))
    }

    /// What lies between the last place that this returned and the next; at last the rest of the text. Only for those
    /// that use nothing else but this.
    #[inline(always)]
    pub(crate) fn piece(&mut self) -> Option<&'t str> {
        let start = self.start?;
        let place = self.next();
        self.start = place.map(|place| place + 1);
        let end = place.unwrap_or(self.text.len());
        if start > end {
            return None;
        }
        // SAFETY: as above, an ASCII character is at `end` unless the text ends there, and one is before `start` unless
        // the text begins there.
        Some(unsafe { self.text.get_unchecked(start..end) })
    }
}

/// Fills the list with the places in a window. Returns how many they are, and whether they are all of the first byte.
#[inline(always)]
fn fill<W: Wanted>(window: &[u8], list: &mut List) -> (usize, bool) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512vbmi2") && std::arch::is_x86_feature_detected!("avx512bw") {
        // SAFETY: the processor has the instructions.
        return unsafe { fill_by_64::<W>(window, list) };
    }
    fill_by_32::<W>(window, list)
}
/// With a mask of 64 bytes, from which the processor makes a list in one instruction.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,bmi1,popcnt")]
fn fill_by_64<W: Wanted>(window: &[u8], list: &mut List) -> (usize, bool) {
    use std::arch::x86_64::{
        _mm512_add_epi16, _mm512_castsi512_si256, _mm512_cmpeq_epi8_mask, _mm512_cmplt_epu8_mask,
        _mm512_cvtepu8_epi16, _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_maskz_compress_epi8,
        _mm512_maskz_loadu_epi8, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_storeu_si512,
    };
    const ORDER: [u8; CHUNK_BYTES] = {
        let mut order = [0; CHUNK_BYTES];
        let mut at = 0;
        while at < CHUNK_BYTES {
            order[at] = at as u8;
            at += 1;
        }
        order
    };
    // SAFETY: it is as long as what is loaded.
    let order = unsafe { _mm512_loadu_si512(ORDER.as_ptr().cast()) };
    let (mut count, mut others) = (0, 0);
    for (at, chunk) in window.chunks(CHUNK_BYTES).enumerate() {
        let present = u64::MAX >> (CHUNK_BYTES - chunk.len());
        // SAFETY: bytes past the chunk's end are masked and so not read.
        let bytes = unsafe { _mm512_maskz_loadu_epi8(present, chunk.as_ptr().cast()) };
        let mut other = _mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(W::BELOW as i8)) & present;
        for byte in W::OTHERS {
            other |= _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(*byte as i8));
        }
        let found = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(W::FIRST as i8)) | other;
        others |= other;
        let compressed = _mm512_maskz_compress_epi8(found, order);
        let base = _mm512_set1_epi16((at * CHUNK_BYTES) as i16);
        // SAFETY: of each chunk before, at most 64 places are in the list, so there is room for 64 more.
        unsafe {
            let to = list.as_mut_ptr().add(count);
            let first = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(compressed));
            _mm512_storeu_si512(to.cast(), _mm512_add_epi16(first, base));
            if found.count_ones() > 32 {
                let second = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64::<1>(compressed));
                _mm512_storeu_si512(to.add(32).cast(), _mm512_add_epi16(second, base));
            }
        }
        count += found.count_ones() as usize;
    }
    (count, others == 0)
}

/// With two masks of 32 bytes.
fn fill_by_32<W: Wanted>(window: &[u8], list: &mut List) -> (usize, bool) {
    let (mut count, mut others) = (0, 0);
    let mut add = |base: usize, chunk: &[u8; CHUNK_BYTES]| {
        let (low, high) = chunk.split_at(32);
        let [low, high] = [low, high].map(|half| half.first_chunk().map_or((0, 0), masks::<W>));
        let other = u64::from(low.1) | u64::from(high.1) << 32;
        let mut found = u64::from(low.0) | u64::from(high.0) << 32 | other;
        others |= other;
        while found != 0 {
            list[count].write((base + found.trailing_zeros() as usize) as u16);
            count += 1;
            found &= found - 1;
        }
    };
    let (chunks, rest) = window.as_chunks();
    for (at, chunk) in chunks.iter().enumerate() {
        add(at * CHUNK_BYTES, chunk);
    }
    if !rest.is_empty() {
        let mut padded = [NOT_WANTED; CHUNK_BYTES];
        padded[..rest.len()].copy_from_slice(rest);
        add(chunks.len() * CHUNK_BYTES, &padded);
    }
    (count, others == 0)
}

/// A bit for each byte that is the first of those wanted, and for each that is one of the others.
#[inline(always)]
fn masks<W: Wanted>(bytes: &[u8; 32]) -> (u32, u32) {
    let bytes = u8x32::new(*bytes);
    let mut others = match W::BELOW.checked_sub(1) {
        Some(most) => bytes.simd_eq(bytes.min(u8x32::splat(most))),
        None => u8x32::splat(0),
    };
    for byte in W::OTHERS {
        others |= bytes.simd_eq(u8x32::splat(*byte));
    }
    (bytes.simd_eq(u8x32::splat(W::FIRST)).to_bitmask(), others.to_bitmask())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Quotes;
    impl Wanted for Quotes {
        const FIRST: u8 = b'"';
        const OTHERS: &'static [u8] = b"\\";
        const BELOW: u8 = b' ';
    }

    struct Bars;
    impl Wanted for Bars {
        const FIRST: u8 = b'|';
        const OTHERS: &'static [u8] = b"";
        const BELOW: u8 = 0;
    }

    fn places<W: Wanted>(text: &str) -> Places<'_, W> {
        let mut places = Places::new(text);
        places.look(0);
        places
    }

    fn text() -> impl Strategy<Value = String> {
        let character =
            prop_oneof![4 => any::<char>(), 2 => prop::sample::select(vec!['"', '|']), 4 => Just('a')];
        prop::collection::vec(character, 0..900).prop_map(String::from_iter)
    }

    fn list<W: Wanted>(fill: fn(&[u8], &mut List) -> (usize, bool), text: &[u8]) -> (Vec<u16>, bool) {
        let mut list = [const { MaybeUninit::new(0) }; WINDOW_BYTES];
        let (count, are_firsts) = fill(text, &mut list);
        // SAFETY: all were filled before.
        (list[..count].iter().map(|place| unsafe { place.assume_init() }).collect(), are_firsts)
    }

    proptest! {
        #[test]
        fn all_places_are_found_in_texts_of_any_length(text in text(), step in 1usize..40) {
            let is_wanted = |at: &usize| matches!(text.as_bytes()[*at], b'"' | b'\\' | 0..0x20);
            let expected: Vec<usize> = (0..text.len()).filter(is_wanted).collect();
            let mut found = places::<Quotes>(&text);
            prop_assert_eq!(&std::iter::from_fn(|| found.next()).collect::<Vec<_>>(), &expected);
            // Some are passed over.
            let (mut found, mut at) = (places::<Quotes>(&text), 0);
            for place in expected {
                if place >= at {
                    prop_assert_eq!(found.from(at), Some(place));
                    at = place + step;
                }
            }
        }

        #[test]
        fn all_ways_to_find_them_find_the_same(text in prop::collection::vec(any::<u8>(), 0..=WINDOW_BYTES)) {
            let lists = list::<Quotes>(fill::<Quotes>, &text);
            prop_assert_eq!(lists, list::<Quotes>(fill_by_32::<Quotes>, &text));
            prop_assert_eq!(list::<Bars>(fill::<Bars>, &text), list::<Bars>(fill_by_32::<Bars>, &text));
        }

        #[test]
        fn pieces_are_what_lies_between(text in text()) {
            let mut found = places::<Bars>(&text);
            let pieces: Vec<&str> = std::iter::from_fn(|| found.piece()).collect();
            prop_assert_eq!(pieces, text.split('|').collect::<Vec<_>>());
        }

        #[test]
        fn pairs_are_names_and_strings(names in prop::collection::vec(("[a-zä]{0,9}", "[a-zä]{0,99}"), 0..20)) {
            let text: String = names.iter().map(|(name, value)| format!("\"{name}\":\"{value}\",")).collect();
            let (mut found, mut at) = (places::<Quotes>(&text), 0);
            while let Some((name, value, end)) = found.pair(at) {
                prop_assert_eq!(&text[at..end], format!("\"{name}\":\"{value}\""));
                at = end + 1;
            }
            prop_assert!(at == text.len() || text.len() > WINDOW_BYTES);
        }
    }

    #[test]
    fn a_text_of_nothing_else_fits_the_list() {
        let text = "\"".repeat(2 * WINDOW_BYTES);
        let mut found = places::<Quotes>(&text);
        assert!((0..text.len()).all(|at| found.next() == Some(at)));
        assert_eq!(found.next(), None);
    }
}
