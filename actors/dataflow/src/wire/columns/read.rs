//! Columns found in bytes, and the reading of single values from them.

use super::deserialize::Cell;
use super::kind::{Kind, VariantKind};
use super::{MAX_COLUMNS, MAX_DEPTH};
use crate::wire::error::{DecodeError, Reason};
use serde::de::DeserializeOwned;

/// Rows are allocated for at once up to so many bytes per byte read; more as they come.
const AMPLIFICATION: usize = 8;

/// Reads rows; `frame` is what offsets of errors count from, and holds `bytes`.
pub(super) fn rows<T: DeserializeOwned>(
    rows: usize,
    bytes: &[u8],
    frame: &[u8],
) -> Result<Vec<T>, DecodeError> {
    let mut reader = Reader::new(bytes, frame)?;
    reader.check_count(0, 0, rows)?;
    let most = (bytes.len().saturating_mul(AMPLIFICATION) / size_of::<T>().max(1)).max(16);
    let mut all = Vec::with_capacity(rows.min(most));
    for row in 0..rows {
        match T::deserialize(Cell { reader: &mut reader, at: 0 }) {
            Ok(value) => all.push(value),
            Err(error) => return Err(reader.placed(error, 0).in_row(row)),
        }
    }
    reader.check_end()?;
    Ok(all)
}

/// One column and how far it is read.
pub(super) struct Column<'de> {
    pub(super) kind: Kind,
    /// First of the columns below.
    pub(super) first: usize,
    /// Number of columns below, but those of variants.
    pub(super) arity: usize,
    /// The column that holds a value whenever this one does.
    probe: usize,
    parent: usize,
    /// Name of the field it is, if it is one.
    pub(super) name: &'de str,
    /// Values not yet read.
    data: &'de [u8],
    /// Text not yet read.
    text: &'de str,
    /// Bytes not yet read.
    bytes: &'de [u8],
    /// Names of fields a reader asked for, where they are those of the columns below.
    in_order: Option<&'static [&'static str]>,
    pub(super) variants: Vec<Variant<'de>>,
}

/// A variant of an enum.
#[derive(Clone, Copy)]
pub(super) struct Variant<'de> {
    pub(super) name: &'de str,
    pub(super) kind: VariantKind,
    pub(super) first: usize,
    pub(super) arity: usize,
    in_order: Option<&'static [&'static str]>,
}

/// Columns of a batch.
pub(super) struct Reader<'de> {
    pub(super) columns: Vec<Column<'de>>,
    frame: &'de [u8],
}

impl<'de> Reader<'de> {
    fn new(bytes: &'de [u8], frame: &'de [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader { columns: vec![Column::unseen(0, "")], frame };
        let mut rest = bytes;
        reader.read_column(0, 0, &mut rest)?;
        if !rest.is_empty() {
            return Err(reader.error_at(Reason::Trailing(rest.len()), rest));
        }
        Ok(reader)
    }

    fn read_column(&mut self, at: usize, depth: usize, rest: &mut &'de [u8]) -> Result<(), DecodeError> {
        if depth > MAX_DEPTH {
            return Err(self.error_at(Reason::TooDeep(MAX_DEPTH), rest));
        }
        let byte = self.read_byte(rest)?;
        let Some(kind) = Kind::from_byte(byte) else {
            return Err(self.error_at(Reason::Tag { what: "kind of column", value: byte.into() }, rest));
        };
        let data = self.read_bytes(rest)?;
        let column = &mut self.columns[at];
        (column.kind, column.data, column.probe) = (kind, data, at);
        match kind {
            Kind::Text => {
                let bytes = self.read_bytes(rest)?;
                self.columns[at].text = self.utf8(bytes)?;
            }
            Kind::Bytes => self.columns[at].bytes = self.read_bytes(rest)?,
            Kind::Option | Kind::Seq => self.read_below(at, depth, 1, rest)?,
            Kind::Map => self.read_below(at, depth, 2, rest)?,
            Kind::Tuple | Kind::Struct => {
                let arity = self.read_number(rest)?;
                self.read_below(at, depth, arity, rest)?;
                if arity > 0 {
                    self.columns[at].probe = self.columns[self.columns[at].first].probe;
                }
            }
            Kind::Enum => {
                let count = self.read_number(rest)?;
                if count > MAX_COLUMNS {
                    return Err(self.error_at(Reason::TooManyColumns(MAX_COLUMNS), rest));
                }
                for _ in 0..count {
                    let variant = self.read_variant(at, depth, rest)?;
                    self.columns[at].variants.push(variant);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn read_below(
        &mut self,
        at: usize,
        depth: usize,
        arity: usize,
        rest: &mut &'de [u8],
    ) -> Result<(), DecodeError> {
        let named = self.columns[at].kind == Kind::Struct;
        let first = self.read_fields(at, depth, arity, named, rest)?;
        (self.columns[at].first, self.columns[at].arity) = (first, arity);
        Ok(())
    }

    fn read_variant(
        &mut self,
        at: usize,
        depth: usize,
        rest: &mut &'de [u8],
    ) -> Result<Variant<'de>, DecodeError> {
        let name = self.read_bytes(rest)?;
        let name = self.utf8(name)?;
        let byte = self.read_byte(rest)?;
        let Some(kind) = VariantKind::from_byte(byte) else {
            return Err(self.error_at(Reason::Tag { what: "kind of variant", value: byte.into() }, rest));
        };
        let arity = self.read_number(rest)?;
        let fits = match kind {
            VariantKind::Unit => arity == 0,
            VariantKind::Newtype => arity == 1,
            VariantKind::Tuple | VariantKind::Struct => true,
        };
        if !fits {
            let value = u32::try_from(arity).unwrap_or(u32::MAX);
            return Err(self.error_at(Reason::Tag { what: "number of fields", value }, rest));
        }
        let first = self.read_fields(at, depth, arity, kind == VariantKind::Struct, rest)?;
        Ok(Variant { name, kind, first, arity, in_order: None })
    }

    fn read_fields(
        &mut self,
        at: usize,
        depth: usize,
        arity: usize,
        named: bool,
        rest: &mut &'de [u8],
    ) -> Result<usize, DecodeError> {
        let first = self.columns.len();
        if arity > MAX_COLUMNS.saturating_sub(first) {
            return Err(self.error_at(Reason::TooManyColumns(MAX_COLUMNS), rest));
        }
        self.columns.extend((0..arity).map(|_| Column::unseen(at, "")));
        for field in first..first + arity {
            if named {
                let name = self.read_bytes(rest)?;
                self.columns[field].name = self.utf8(name)?;
            }
            self.read_column(field, depth + 1, rest)?;
        }
        Ok(first)
    }

    fn read_byte(&self, rest: &mut &'de [u8]) -> Result<u8, DecodeError> {
        let Some((byte, after)) = rest.split_first() else {
            return Err(self.error_at(Reason::Truncated, rest));
        };
        *rest = after;
        Ok(*byte)
    }

    /// A number of at most 32 bits.
    fn read_number(&self, rest: &mut &'de [u8]) -> Result<usize, DecodeError> {
        let mut number = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.read_byte(rest)?;
            if shift == 28 && byte > 15 {
                break;
            }
            number |= usize::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(number);
            }
        }
        Err(self.error_at(Reason::TooLong(usize::MAX), rest))
    }

    fn read_bytes(&self, rest: &mut &'de [u8]) -> Result<&'de [u8], DecodeError> {
        let length = self.read_number(rest)?;
        let Some((bytes, after)) = rest.split_at_checked(length) else {
            return Err(self.error_at(Reason::Truncated, rest));
        };
        *rest = after;
        Ok(bytes)
    }

    fn utf8(&self, bytes: &'de [u8]) -> Result<&'de str, DecodeError> {
        str::from_utf8(bytes).map_err(|error| {
            self.error_at(Reason::NotUtf8, bytes.get(error.valid_up_to()..).unwrap_or(bytes))
        })
    }

    /// Takes a value of fixed width.
    #[inline(always)]
    pub(super) fn fixed<const N: usize>(&mut self, at: usize) -> Result<[u8; N], DecodeError> {
        let column = &mut self.columns[at];
        match column.data.split_first_chunk::<N>() {
            Some((value, rest)) => {
                column.data = rest;
                Ok(*value)
            }
            None => Err(self.fail(at, Reason::Truncated)),
        }
    }

    /// Takes a length or tag.
    #[inline]
    pub(super) fn length(&mut self, at: usize) -> Result<usize, DecodeError> {
        match self.fixed::<1>(at)? {
            [255] => Ok(u32::from_le_bytes(self.fixed(at)?) as usize),
            [short] => Ok(usize::from(short)),
        }
    }

    /// Takes the number of elements in a sequence or map, which those below must be able to hold.
    #[inline]
    pub(super) fn count(&mut self, at: usize) -> Result<usize, DecodeError> {
        let count = self.length(at)?;
        self.check_count(at, self.columns[at].first, count)?;
        Ok(count)
    }

    #[inline]
    fn check_count(&self, at: usize, below: usize, count: usize) -> Result<(), DecodeError> {
        let probe = &self.columns[self.columns[below].probe];
        match probe.kind.width().unwrap_or(1).checked_mul(count) {
            Some(bytes) if bytes <= probe.data.len() => Ok(()),
            _ => Err(self.fail(at, Reason::TooLong(count))),
        }
    }

    /// Takes whether there is a value.
    #[inline]
    pub(super) fn present(&mut self, at: usize) -> Result<bool, DecodeError> {
        match self.fixed::<1>(at)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.fail(at, Reason::Tag { what: "truth value", value: other.into() })),
        }
    }

    /// Takes a string.
    #[inline]
    pub(super) fn text(&mut self, at: usize) -> Result<&'de str, DecodeError> {
        let length = self.length(at)?;
        let column = &mut self.columns[at];
        // All text of the column was checked in one go; what is left is that no cut goes through a character.
        match column.text.split_at_checked(length) {
            Some((text, rest)) => {
                column.text = rest;
                Ok(text)
            }
            None if length > column.text.len() => Err(self.fail(at, Reason::Truncated)),
            None => Err(self.fail(at, Reason::NotUtf8)),
        }
    }

    /// Takes a byte string.
    #[inline]
    pub(super) fn byte_string(&mut self, at: usize) -> Result<&'de [u8], DecodeError> {
        let length = self.length(at)?;
        let column = &mut self.columns[at];
        match column.bytes.split_at_checked(length) {
            Some((bytes, rest)) => {
                column.bytes = rest;
                Ok(bytes)
            }
            None => Err(self.fail(at, Reason::Truncated)),
        }
    }

    /// Takes a character.
    #[inline]
    pub(super) fn char(&mut self, at: usize) -> Result<char, DecodeError> {
        let value = u32::from_le_bytes(self.fixed(at)?);
        char::from_u32(value).ok_or_else(|| self.fail(at, Reason::NotChar(value)))
    }

    /// Takes an enum's tag.
    #[inline]
    pub(super) fn tag(&mut self, at: usize) -> Result<usize, DecodeError> {
        let tag = self.length(at)?;
        if tag < self.columns[at].variants.len() {
            return Ok(tag);
        }
        let value = u32::try_from(tag).unwrap_or(u32::MAX);
        Err(self.fail(at, Reason::Tag { what: "variant", value }))
    }

    /// Whether the columns below a struct are the fields asked for, in their order.
    #[inline]
    pub(super) fn fields_are(&mut self, at: usize, fields: &'static [&'static str]) -> bool {
        let column = &self.columns[at];
        if column.in_order.is_some_and(|known| std::ptr::eq(known, fields)) {
            return true;
        }
        let same = self.names_are(column.first, column.arity, fields);
        if same {
            self.columns[at].in_order = Some(fields);
        }
        same
    }

    /// The same of an enum's variant.
    #[inline]
    pub(super) fn variant_fields_are(
        &mut self,
        at: usize,
        tag: usize,
        fields: &'static [&'static str],
    ) -> bool {
        let variant = self.columns[at].variants[tag];
        if variant.in_order.is_some_and(|known| std::ptr::eq(known, fields)) {
            return true;
        }
        let same = self.names_are(variant.first, variant.arity, fields);
        if same {
            self.columns[at].variants[tag].in_order = Some(fields);
        }
        same
    }

    fn names_are(&self, first: usize, arity: usize, fields: &[&str]) -> bool {
        let columns = &self.columns[first..first + arity];
        arity == fields.len() && columns.iter().zip(fields).all(|(column, field)| column.name == *field)
    }

    /// Passes over a value.
    pub(super) fn skip(&mut self, at: usize) -> Result<(), DecodeError> {
        let (kind, first, arity) = (self.columns[at].kind, self.columns[at].first, self.columns[at].arity);
        match kind {
            Kind::Text => drop(self.text(at)?),
            Kind::Bytes => drop(self.byte_string(at)?),
            Kind::Option => {
                if self.present(at)? {
                    self.skip(first)?;
                }
            }
            Kind::Seq | Kind::Map => {
                for _ in 0..self.count(at)? {
                    (first..first + arity).try_for_each(|below| self.skip(below))?;
                }
            }
            Kind::Tuple | Kind::Struct => {
                self.open_fields(at)?;
                (first..first + arity).try_for_each(|below| self.skip(below))?;
            }
            Kind::Enum => {
                let tag = self.tag(at)?;
                let variant = self.columns[at].variants[tag];
                (variant.first..variant.first + variant.arity).try_for_each(|below| self.skip(below))?;
            }
            fixed => {
                for _ in 0..fixed.width().unwrap_or(1) {
                    self.fixed::<1>(at)?;
                }
            }
        }
        Ok(())
    }

    /// Takes what stands for a struct or tuple itself: nothing, unless it is without fields.
    #[inline]
    pub(super) fn open_fields(&mut self, at: usize) -> Result<(), DecodeError> {
        if self.columns[at].arity == 0 {
            self.fixed::<1>(at)?;
        }
        Ok(())
    }

    /// An error at the point a column is read to.
    #[cold]
    pub(super) fn fail(&self, at: usize, reason: Reason) -> DecodeError {
        let mut error = self.error_at(reason, self.columns[at].data);
        error.place(error.offset(), self.path(at));
        error
    }

    /// Gives an error without a place that of a column.
    #[cold]
    pub(super) fn placed(&self, mut error: DecodeError, at: usize) -> DecodeError {
        if !error.is_placed() {
            error.place(self.offset(self.columns[at].data), self.path(at));
        }
        error
    }

    #[cold]
    fn error_at(&self, reason: Reason, rest: &[u8]) -> DecodeError {
        DecodeError::at(reason, self.offset(rest))
    }

    fn offset(&self, rest: &[u8]) -> usize {
        // Slices that were never set lie elsewhere.
        let offset = rest.as_ptr().addr().wrapping_sub(self.frame.as_ptr().addr());
        if offset <= self.frame.len() { offset } else { 0 }
    }

    fn check_end(&self) -> Result<(), DecodeError> {
        for (at, column) in self.columns.iter().enumerate() {
            let left = column.data.len() + column.text.len() + column.bytes.len();
            if left > 0 {
                return Err(self.fail(at, Reason::Trailing(left)));
            }
        }
        Ok(())
    }

    fn path(&self, at: usize) -> String {
        if at == 0 {
            return "row".to_string();
        }
        let column = &self.columns[at];
        let parent = &self.columns[column.parent];
        let mut path = self.path(column.parent);
        match parent.kind {
            Kind::Option => path.push('?'),
            Kind::Seq => path.push_str("[]"),
            Kind::Map => path.push_str(if at == parent.first { "[key]" } else { "[value]" }),
            Kind::Enum => {
                for variant in &parent.variants {
                    if (variant.first..variant.first + variant.arity).contains(&at) {
                        path.push_str(&format!("::{}", variant.name));
                        if variant.kind == VariantKind::Tuple {
                            path.push_str(&format!(".{}", at - variant.first));
                        }
                    }
                }
            }
            Kind::Tuple => path.push_str(&format!(".{}", at - parent.first)),
            _ => {}
        }
        if !column.name.is_empty() {
            path.push('.');
            path.push_str(column.name);
        }
        path
    }
}

impl<'de> Column<'de> {
    fn unseen(parent: usize, name: &'de str) -> Self {
        Column {
            kind: Kind::Unseen,
            first: 0,
            arity: 0,
            probe: 0,
            parent,
            name,
            data: &[],
            text: "",
            bytes: &[],
            in_order: None,
            variants: Vec::new(),
        }
    }
}
