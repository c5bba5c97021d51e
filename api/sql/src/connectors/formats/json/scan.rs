//! Finds its way through a line of JSON: names, texts, and what is to be skipped, which may be nested at will, since
//! skipping only counts brackets. Text is looked at eight bytes at a time.

/// What is wrong, and at which byte of the line.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) at: usize,
    /// The member it is in, outermost first.
    pub(super) field: Option<String>,
    pub(super) reason: String,
}

pub(super) type Read<T> = Result<T, Wrong>;

pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    /// For text with escapes that is not kept.
    pub(super) scratch: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0, scratch: Vec::new() }
    }

    #[cold]
    pub(super) fn wrong(&self, reason: impl Into<String>) -> Wrong {
        Wrong { at: self.at.min(self.bytes.len()), field: None, reason: reason.into() }
    }

    /// The next byte that is not white space.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    #[inline]
    pub(super) fn takes(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    #[inline]
    pub(super) fn expect(&mut self, byte: u8) -> Read<()> {
        if self.takes(byte) {
            return Ok(());
        }
        Err(match self.peek() {
            Some(_) => self.wrong(format!("expected '{}'", byte as char)),
            None => self.wrong("the line ends too early"),
        })
    }

    /// Calls `member` with the name of each member of an object, to read its value.
    #[inline]
    pub(super) fn members(&mut self, mut member: impl FnMut(&mut Self, &[u8]) -> Read<()>) -> Read<()> {
        self.expect(b'{')?;
        if self.takes(b'}') {
            return Ok(());
        }
        loop {
            self.expect(b'"')?;
            let (name, is_plain) = self.text()?;
            self.expect(b':')?;
            if is_plain {
                member(self, name)?;
            } else {
                let mut unescaped = Vec::new();
                self.unescape(name, &mut unescaped)?;
                member(self, &unescaped)?;
            }
            if !self.takes(b',') {
                return self.expect(b'}');
            }
        }
    }

    pub(super) fn word(&mut self, word: &[u8]) -> Read<()> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.wrong("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// The rest of a text whose opening quote was taken, and whether there are no escapes in it.
    #[inline]
    pub(super) fn text(&mut self) -> Read<(&'a [u8], bool)> {
        let (start, mut is_plain) = (self.at, true);
        loop {
            match self.next_mark() {
                Some(b'"') => {
                    let text = &self.bytes[start..self.at];
                    self.at += 1;
                    return Ok((text, is_plain));
                }
                Some(_) => {
                    is_plain = false;
                    self.at += 2;
                }
                None => {
                    self.at = start - 1;
                    return Err(self.wrong("the text that begins here does not end"));
                }
            }
        }
    }

    /// Goes to the next quote or backslash.
    #[inline]
    fn next_mark(&mut self) -> Option<u8> {
        const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
        const QUOTES: u64 = u64::from_ne_bytes([b'"'; 8]);
        const BACKSLASHES: u64 = u64::from_ne_bytes([b'\\'; 8]);
        // A byte is zero if neither its high bit is set nor its low bits carry into it.
        let differs = |word: u64| ((word & LOW) + LOW) | word;
        while let Some(word) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_le_bytes(*word);
            let hits = !(differs(word ^ QUOTES) & differs(word ^ BACKSLASHES)) & !LOW;
            if hits != 0 {
                self.at += (hits.trailing_zeros() / 8) as usize;
                return self.bytes.get(self.at).copied();
            }
            self.at += 8;
        }
        let rest = self.bytes.get(self.at..)?;
        self.at += rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        self.bytes.get(self.at).copied()
    }

    /// Adds a text whose escapes are replaced.
    pub(super) fn unescape(&self, mut text: &[u8], out: &mut Vec<u8>) -> Read<()> {
        while let Some(at) = memchr::memchr(b'\\', text) {
            out.extend_from_slice(&text[..at]);
            let escape = text.get(at + 1).copied();
            text = text.get(at + 2..).unwrap_or_default();
            out.push(match escape {
                Some(byte @ (b'"' | b'\\' | b'/')) => byte,
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'u') => {
                    let (letter, rest) = code_point(text)
                        .ok_or_else(|| self.wrong("an escape that stands for no character"))?;
                    text = rest;
                    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
                _ => return Err(self.wrong("an escape that JSON does not have")),
            });
        }
        out.extend_from_slice(text);
        Ok(())
    }

    /// Skips a value of whatever kind.
    pub(super) fn skip(&mut self) -> Read<()> {
        let mut depth = 0usize;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.text()?;
                }
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                Some(b'}' | b']') if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                Some(b',' | b':') if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                Some(b't' | b'f' | b'n' | b'-' | b'0'..=b'9') => {
                    let rest = &self.bytes[self.at..];
                    let is_part =
                        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
                    self.at += rest.iter().take_while(|byte| is_part(byte)).count();
                }
                Some(_) => return Err(self.wrong("expected a value")),
                None => return Err(self.wrong("the line ends too early")),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// The character behind `\u`, and what follows it.
fn code_point(text: &[u8]) -> Option<(char, &[u8])> {
    let unit = |text: &[u8]| {
        let digits = std::str::from_utf8(text.get(..4)?).ok()?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
    };
    let first = unit(text)?;
    let rest = &text[4..];
    if let Some(letter) = char::from_u32(u32::from(first)) {
        return Some((letter, rest));
    }
    let second = unit(rest.strip_prefix(b"\\u")?)?;
    let letter = char::decode_utf16([first, second]).next()?.ok()?;
    Some((letter, &rest[6..]))
}
