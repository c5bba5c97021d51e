//! Reads JSON that is plain, which most is: no escapes in strings, no integers of more than 18 digits. Whatever else
//! there is, and whatever is wrong, is left to serde_json, so that results and errors are always its own. The gain lies
//! in finding the ends of strings, all at once, before any is read.

use crate::places::{Places, Wanted};
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use std::fmt;

/// Deeper nesting is left to serde_json, which has a limit of its own.
const MAX_DEPTH: u8 = 64;

/// Reads a JSON value from all of `text`, with the result that serde_json has, but faster where the text is plain.
///
/// ```
/// #[derive(serde::Deserialize)]
/// struct Click<'a> {
///     user: &'a str,
///     time: u64,
/// }
/// let click: Click<'_> = hurtig_formats::read_json(r#"{"user":"ann","page":[1,2],"time":17}"#)?;
/// assert_eq!((click.user, click.time), ("ann", 17));
/// # Ok::<_, serde_json::Error>(())
/// ```
///
/// # Errors
/// The text is not JSON, or not of the type.
#[inline]
pub fn read_json<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, serde_json::Error> {
    match plain(text) {
        Ok(value) => Ok(value),
        Err(Irregular) => irregular(text),
    }
}

#[cold]
#[inline(never)]
fn irregular<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text)
}

/// As [`read_json`], but leaves alone what is not plain. Inlined with its caller, so that the value is moved once less:
/// that costs a small one as much as a string does.
#[inline(always)]
pub(super) fn plain<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Irregular> {
    let mut reader = Reader { text, at: 0, ends: Places::new(text), depth: 0 };
    reader.ends.look(0);
    match T::deserialize(&mut reader) {
        Ok(value) if reader.peek().is_none() => Ok(value),
        _ => Err(Irregular),
    }
}

/// The text is wrong or not plain; which of the two is for serde_json to say.
#[derive(Debug)]
pub(super) struct Irregular;

impl fmt::Display for Irregular {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not plain JSON")
    }
}
impl std::error::Error for Irregular {}
impl de::Error for Irregular {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Irregular
    }
}

/// What ends plain text within a string: quote, backslash, control character.
struct Ends;

impl Wanted for Ends {
    const FIRST: u8 = b'"';
    const OTHERS: &'static [u8] = b"\\";
    const BELOW: u8 = b' ';
}

struct Reader<'de> {
    text: &'de str,
    at: usize,
    ends: Places<'de, Ends>,
    depth: u8,
}

impl<'de> Reader<'de> {
    /// The next byte that is not white space.
    #[inline(always)]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8) -> Result<(), Irregular> {
        if self.peek() != Some(byte) {
            return Err(Irregular);
        }
        self.at += 1;
        Ok(())
    }

    /// Takes two bytes if they come next.
    #[inline(always)]
    fn skips(&mut self, bytes: [u8; 2]) -> bool {
        let found = self.text.as_bytes().get(self.at..).and_then(<[u8]>::first_chunk) == Some(&bytes);
        self.at += if found { 2 } else { 0 };
        found
    }

    /// The rest of a string whose opening quote has been taken.
    #[inline(always)]
    fn string(&mut self) -> Result<&'de str, Irregular> {
        let start = self.at;
        let end = self.ends.from(start).ok_or(Irregular)?;
        if self.text.as_bytes().get(end) != Some(&b'"') {
            return Err(Irregular);
        }
        self.at = end + 1;
        self.text.get(start..end).ok_or(Irregular)
    }

    /// The next name of an object together with its value, if that is a string and no white space is between them.
    #[inline(always)]
    fn pair(&mut self, is_first: bool) -> Option<(&'de str, &'de str)> {
        let start = self.at + usize::from(!is_first);
        if !is_first && self.text.as_bytes().get(self.at) != Some(&b',') {
            return None;
        }
        let (name, value, end) = self.ends.pair(start)?;
        self.at = end;
        Some((name, value))
    }

    #[inline]
    fn quoted(&mut self) -> Result<&'de str, Irregular> {
        self.expect(b'"')?;
        self.string()
    }

    /// Takes a word if it comes next, behind no white space.
    fn takes(&mut self, word: &str) -> bool {
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Irregular> {
        let (start, bytes) = (self.at, self.text.as_bytes());
        let is_negative = bytes.get(start) == Some(&b'-');
        let first = start + usize::from(is_negative);
        self.at = first;
        let mut number = 0u64;
        while let Some(digit @ b'0'..=b'9') = bytes.get(self.at) {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        let digits = self.at - first;
        if matches!(bytes.get(self.at), Some(b'.' | b'e' | b'E')) {
            while let Some(b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') = bytes.get(self.at) {
                self.at += 1;
            }
            let number = serde_json::from_str(&self.text[start..self.at]).map_err(|_| Irregular)?;
            return visitor.visit_f64(number);
        }
        // Minus nought is no integer.
        if digits == 0 || digits > 18 || digits > 1 && bytes[first] == b'0' || is_negative && number == 0 {
            return Err(Irregular);
        }
        if is_negative { visitor.visit_i64(-(number as i64)) } else { visitor.visit_u64(number) }
    }

    #[inline]
    fn map<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Irregular> {
        self.expect(b'{')?;
        self.deeper()?;
        let value = visitor.visit_map(Items { reader: self, is_first: true, value: None })?;
        self.depth -= 1;
        self.expect(b'}')?;
        Ok(value)
    }

    fn seq<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Irregular> {
        self.expect(b'[')?;
        self.deeper()?;
        let value = visitor.visit_seq(Items { reader: self, is_first: true, value: None })?;
        self.depth -= 1;
        self.expect(b']')?;
        Ok(value)
    }

    #[inline]
    fn deeper(&mut self) -> Result<(), Irregular> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Irregular) } else { Ok(()) }
    }
}

/// The items of an object or array.
struct Items<'r, 'de> {
    reader: &'r mut Reader<'de>,
    is_first: bool,
    /// The value of the name just read, if it has been read with it.
    value: Option<&'de str>,
}

impl Items<'_, '_> {
    /// Whether another item follows, whose beginning is then next.
    #[inline(always)]
    fn has_more(&mut self, close: u8) -> Result<bool, Irregular> {
        let next = self.reader.peek().ok_or(Irregular)?;
        if std::mem::take(&mut self.is_first) || next == close {
            return Ok(next != close);
        }
        self.reader.expect(b',')?;
        Ok(true)
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = Irregular;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Irregular> {
        if let Some((name, value)) = self.reader.pair(self.is_first) {
            self.is_first = false;
            self.value = Some(value);
            return seed.deserialize(MapKey(name)).map(Some);
        }
        // All there is between a value and the next key where there is no white space.
        let key = if !self.is_first && self.reader.skips(*b",\"") {
            self.reader.string()?
        } else if self.has_more(b'}')? {
            self.reader.quoted()?
        } else {
            return Ok(None);
        };
        seed.deserialize(MapKey(key)).map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Irregular> {
        if let Some(value) = self.value.take() {
            return seed.deserialize(Text(value));
        }
        self.reader.expect(b':')?;
        seed.deserialize(&mut *self.reader)
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Irregular;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Irregular> {
        if !self.has_more(b']')? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

/// Methods that take what [`Deserializer::deserialize_any`] does, if it begins as what was asked for.
macro_rules! beginning_with {
    ($($first:pat => $($method:ident)*;)*) => {$($(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Irregular> {
            match self.peek() {
                Some($first) => self.deserialize_any(visitor),
                _ => Err(Irregular),
            }
        }
    )*)*};
}

/// Methods that leave it to serde_json.
macro_rules! refused {
    ($($method:ident($($argument:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $(_: $argument,)* _: V) -> Result<V::Value, Irregular> {
            Err(Irregular)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Irregular;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Irregular> {
        match self.peek().ok_or(Irregular)? {
            b'"' => visitor.visit_borrowed_str(self.quoted()?),
            b'{' => self.map(visitor),
            b'[' => self.seq(visitor),
            b't' if self.takes("true") => visitor.visit_bool(true),
            b'f' if self.takes("false") => visitor.visit_bool(false),
            b'n' if self.takes("null") => visitor.visit_unit(),
            _ => self.number(visitor),
        }
    }

    beginning_with! {
        b't' | b'f' => deserialize_bool;
        b'-' | b'0'..=b'9' => deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8
            deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64;
        b'"' => deserialize_char deserialize_str deserialize_string deserialize_identifier;
        b'n' => deserialize_unit;
        b'[' => deserialize_seq;
        b'{' => deserialize_map;
    }
    refused! { deserialize_bytes() deserialize_byte_buf() }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Irregular> {
        if self.peek() == Some(b'n') && self.takes("null") {
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Irregular> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Irregular> {
        // serde_json's own types are a matter between themselves and serde_json.
        if name.starts_with("$serde_json") {
            return Err(Irregular);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Irregular> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Irregular> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Irregular> {
        // As above.
        if name.starts_with("$serde_json") { Err(Irregular) } else { self.map(visitor) }
    }

    /// A variant without content; the others go to serde_json.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Irregular> {
        BorrowedStrDeserializer::new(self.quoted()?).deserialize_enum(name, variants, visitor)
    }

    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Irregular> {
        self.deserialize_any(IgnoredAny)?;
        visitor.visit_unit()
    }
}

/// A string that is a value.
struct Text<'de>(&'de str);

impl<'de> Deserializer<'de> for Text<'de> {
    type Error = Irregular;

    #[inline(always)]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Irregular> {
        visitor.visit_borrowed_str(self.0)
    }

    #[inline(always)]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Irregular> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Irregular> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Irregular> {
        // serde_json's own types are a matter between themselves and serde_json.
        if name.starts_with("$serde_json") { Err(Irregular) } else { visitor.visit_newtype_struct(self) }
    }

    /// A variant without content.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Irregular> {
        BorrowedStrDeserializer::new(self.0).deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! { char str string identifier }
    refused! {
        deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_u8()
        deserialize_u16() deserialize_u32() deserialize_u64() deserialize_f32() deserialize_f64() deserialize_bytes()
        deserialize_byte_buf() deserialize_unit() deserialize_seq() deserialize_map()
        deserialize_unit_struct(&'static str) deserialize_tuple(usize)
        deserialize_tuple_struct(&'static str, usize) deserialize_struct(&'static str, &'static [&'static str])
    }
}

/// A name in an object. Numbers, enums and the like as names go to serde_json.
struct MapKey<'de>(&'de str);

impl<'de> Deserializer<'de> for MapKey<'de> {
    type Error = Irregular;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Irregular> {
        visitor.visit_borrowed_str(self.0)
    }

    serde::forward_to_deserialize_any! { str string identifier ignored_any }
    refused! {
        deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_u8()
        deserialize_u16() deserialize_u32() deserialize_u64() deserialize_f32() deserialize_f64() deserialize_char()
        deserialize_bytes() deserialize_byte_buf() deserialize_option() deserialize_unit() deserialize_seq()
        deserialize_map() deserialize_unit_struct(&'static str) deserialize_newtype_struct(&'static str)
        deserialize_tuple(usize) deserialize_tuple_struct(&'static str, usize)
        deserialize_struct(&'static str, &'static [&'static str])
        deserialize_enum(&'static str, &'static [&'static str])
    }
}

#[cfg(test)]
mod tests;
