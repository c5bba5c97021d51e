//! The name of a program: the SHA-256 of its file.

use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// SHA-256 of a program's file, written as 64 hexadecimal digits.
///
/// ```
/// use hurtig_metadata::ProgramHash;
/// let hash = ProgramHash::of(b"abc");
/// assert!(hash.to_string().starts_with("ba7816bf"));
/// assert_eq!(hash.to_string().parse(), Ok(hash));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramHash(pub [u8; 32]);

/// A text is not 64 hexadecimal digits in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a program's hash is 64 hexadecimal digits in lower case")]
pub struct InvalidHash;

impl ProgramHash {
    /// The hash of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        ProgramHash(Sha256::digest(bytes).into())
    }

    /// The hash of all that a file holds from where it is read on.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of_file(file: &mut std::fs::File) -> std::io::Result<Self> {
        let mut hasher = Sha256::new();
        std::io::copy(file, &mut hasher)?;
        Ok(ProgramHash(hasher.finalize().into()))
    }
}

impl fmt::Display for ProgramHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ProgramHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProgramHash({self})")
    }
}

impl FromStr for ProgramHash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let digits = text.as_bytes();
        // Upper case is refused: a file's name and a row's key have one spelling only.
        if digits.len() != 64 || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidHash);
        }
        let value = |digit: u8| if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0]) << 4 | value(pair[1]);
        }
        Ok(ProgramHash(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_spelling_is_a_hash() {
        let text = ProgramHash([0xab; 32]).to_string();
        assert_eq!(text.parse(), Ok(ProgramHash([0xab; 32])));
        for wrong in
            ["", "ab", &text.to_uppercase(), &text[1..], &format!("{text}0"), &format!("g{}", &text[1..])]
        {
            assert_eq!(wrong.parse::<ProgramHash>(), Err(InvalidHash), "{wrong}");
        }
    }
}
