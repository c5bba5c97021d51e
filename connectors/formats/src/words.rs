//! Cuts text into words.

use crate::places::{Places, Wanted};

/// The words of a text: what white space of ASCII parts, as [`str::split_ascii_whitespace`] does, but by 64 bytes at a
/// time.
///
/// ```
/// let mut words = Vec::new();
/// hurtig_formats::for_each_word(" to be,  or not\tto be\n", |word| words.push(word));
/// assert_eq!(words, ["to", "be,", "or", "not", "to", "be"]);
/// ```
#[inline]
pub fn for_each_word<'t>(text: &'t str, mut each: impl FnMut(&'t str)) {
    let mut spaces = Places::<Spaces>::new(text);
    spaces.look(0);
    while let Some(word) = spaces.piece() {
        if !word.is_empty() {
            each(word);
        }
    }
}

struct Spaces;

impl Wanted for Spaces {
    const FIRST: u8 = b' ';
    const OTHERS: &'static [u8] = b"\t\n\x0c\r";
    const BELOW: u8 = 0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_are_those_of_the_standard_library(text in "([a-zä]{0,9}[ \t\n\x0b\x0c\r]{0,3}){0,200}") {
            let mut words = Vec::new();
            for_each_word(&text, |word| words.push(word));
            prop_assert_eq!(words, text.split_ascii_whitespace().collect::<Vec<_>>());
        }
    }
}
