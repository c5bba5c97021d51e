//! Gathering columns from rows, and writing them out.

use super::kind::{Kind, VariantKind};
use super::serialize::Slot;
use super::{MAX_COLUMNS, MAX_DEPTH};
use serde::Serialize;
use std::cell::Cell;
use std::fmt;

/// Why rows cannot be written as columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A position holds one kind of value in one row and another kind in another.
    Varies,
    /// The type is nested too deep, or has too many positions.
    TooLarge,
    /// The type's own `Serialize` refused a value, or wrote what the kind it announced does not allow.
    Failed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Varies => "the shape of the rows varies",
            Refusal::TooLarge => "the shape of the rows is too large",
            Refusal::Failed => "a row cannot be serialised",
        })
    }
}

impl std::error::Error for Refusal {}

impl serde::ser::Error for Refusal {
    // The words are not kept: rows that are refused are written as MessagePack, which then says them.
    fn custom<T: fmt::Display>(_: T) -> Self {
        Refusal::Failed
    }
}

/// One position of the type, or one variant of an enum. Fills a cache line.
#[repr(align(64))]
pub(super) struct Column {
    /// Values, lengths or tags; the text of a string, in the column below it.
    data: Vec<u8>,
    /// Positions below; of an enum, the variants seen, whose place here is their tag.
    below: Box<[Column]>,
    /// The field or variant it is, where it is one.
    name: &'static str,
    /// Of a variant: its number in the type.
    index: u32,
    kind: Kind,
    variant: VariantKind,
    depth: u8,
}

/// What all columns of a type have in common; changes only when a position shows for the first time.
pub(super) struct Growth {
    columns: Cell<usize>,
    grown: Cell<bool>,
}

/// Columns of a type, kept from batch to batch: the shape stays, so that most rows find their columns ready.
pub struct Columns {
    root: Column,
    growth: Growth,
}

impl Default for Columns {
    fn default() -> Self {
        Columns { root: Column::unseen(0), growth: Growth { columns: Cell::new(1), grown: Cell::new(false) } }
    }
}

impl Columns {
    /// Takes rows apart, after forgetting those of the last batch. Returns whether they showed positions of the type
    /// that no row before did.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn gather<T: Serialize>(&mut self, rows: &[T]) -> Result<bool, Refusal> {
        self.root.clear();
        self.growth.grown.set(false);
        for row in rows {
            row.serialize(Slot { column: &mut self.root, growth: &self.growth })?;
        }
        Ok(self.growth.grown.get())
    }

    /// Appends the columns gathered to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.root.bytes());
        self.root.write(out);
    }
}

impl Column {
    fn unseen(depth: u8) -> Self {
        Column {
            data: Vec::new(),
            below: Box::default(),
            name: "",
            index: 0,
            kind: Kind::Unseen,
            variant: VariantKind::Unit,
            depth,
        }
    }

    fn clear(&mut self) {
        self.data.clear();
        self.below.iter_mut().for_each(Column::clear);
    }

    /// About as many bytes as it takes.
    fn bytes(&self) -> usize {
        16 + self.name.len() + self.data.len() + self.below.iter().map(Column::bytes).sum::<usize>()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.kind as u8);
        write_bytes(&self.data, out);
        match self.kind {
            Kind::Text | Kind::Bytes => self.below.iter().for_each(|text| write_bytes(&text.data, out)),
            Kind::Option | Kind::Seq | Kind::Map => self.write_below(false, out),
            Kind::Tuple | Kind::Struct => {
                write_number(self.below.len(), out);
                self.write_below(self.kind == Kind::Struct, out);
            }
            Kind::Enum => {
                write_number(self.below.len(), out);
                for variant in &self.below {
                    write_bytes(variant.name.as_bytes(), out);
                    out.push(variant.variant as u8);
                    write_number(variant.below.len(), out);
                    variant.write_below(variant.variant == VariantKind::Struct, out);
                }
            }
            _ => {}
        }
    }

    fn write_below(&self, named: bool, out: &mut Vec<u8>) {
        for column in &self.below {
            if named {
                write_bytes(column.name.as_bytes(), out);
            }
            column.write(out);
        }
    }

    /// Appends a value of fixed width.
    #[inline(always)]
    pub(super) fn fixed<const N: usize>(
        &mut self,
        kind: Kind,
        bytes: [u8; N],
        growth: &Growth,
    ) -> Result<(), Refusal> {
        if self.kind != kind {
            self.shape(kind, 0, growth)?;
        }
        self.data.extend_from_slice(&bytes);
        Ok(())
    }

    /// Appends a string or byte string.
    #[inline]
    pub(super) fn heap(&mut self, kind: Kind, bytes: &[u8], growth: &Growth) -> Result<(), Refusal> {
        self.length(bytes.len())?;
        self.text(kind, growth)?.extend_from_slice(bytes);
        Ok(())
    }

    /// The bytes of all strings.
    #[inline]
    pub(super) fn text(&mut self, kind: Kind, growth: &Growth) -> Result<&mut Vec<u8>, Refusal> {
        let (_, below) = self.settle(kind, 1, growth)?;
        match below {
            [text] => Ok(&mut text.data),
            _ => Err(Refusal::Failed),
        }
    }

    /// Appends a length or tag.
    #[inline(always)]
    pub(super) fn length(&mut self, length: usize) -> Result<(), Refusal> {
        push_length(length, &mut self.data)
    }

    /// Makes sure that a column is of a kind with so many columns below, and returns its values and those columns.
    #[inline(always)]
    pub(super) fn settle(
        &mut self,
        kind: Kind,
        arity: usize,
        growth: &Growth,
    ) -> Result<(&mut Vec<u8>, &mut [Column]), Refusal> {
        if self.kind != kind || self.below.len() != arity {
            self.shape(kind, arity, growth)?;
        }
        Ok((&mut self.data, &mut self.below))
    }

    #[cold]
    fn shape(&mut self, kind: Kind, arity: usize, growth: &Growth) -> Result<(), Refusal> {
        if self.kind != Kind::Unseen {
            return Err(Refusal::Varies);
        }
        self.grow(arity, growth)?;
        self.kind = kind;
        Ok(())
    }

    /// Adds columns below.
    fn grow(&mut self, count: usize, growth: &Growth) -> Result<(), Refusal> {
        let (all, depth) = (growth.columns.get(), self.depth + 1);
        if count > MAX_COLUMNS - all || usize::from(depth) > MAX_DEPTH {
            return Err(Refusal::TooLarge);
        }
        growth.columns.set(all + count);
        growth.grown.set(true);
        let below = std::mem::take(&mut self.below).into_iter();
        self.below = below.chain((0..count).map(|_| Column::unseen(depth))).collect();
        Ok(())
    }

    /// Makes sure that a column is the named field.
    #[inline(always)]
    pub(super) fn field(&mut self, name: &'static str) -> Result<(), Refusal> {
        if std::ptr::eq(self.name, name) { Ok(()) } else { self.name_field(name) }
    }

    #[cold]
    fn name_field(&mut self, name: &'static str) -> Result<(), Refusal> {
        if self.kind != Kind::Unseen && self.name != name {
            return Err(Refusal::Varies);
        }
        self.name = name;
        Ok(())
    }

    /// Appends an enum's tag, and returns the columns of the variant.
    #[inline]
    pub(super) fn variant(
        &mut self,
        index: u32,
        name: &'static str,
        kind: VariantKind,
        arity: usize,
        growth: &Growth,
    ) -> Result<&mut [Column], Refusal> {
        // Most enums show their variants in few rows.
        let tag = match self.below.get(index as usize) {
            Some(seen) if seen.index == index => index as usize,
            _ => match self.below.iter().position(|seen| seen.index == index) {
                Some(tag) if self.kind == Kind::Enum => tag,
                _ => self.new_variant(index, name, kind, arity, growth)?,
            },
        };
        self.length(tag)?;
        let is_enum = self.kind == Kind::Enum;
        let variant = &mut self.below[tag];
        let same_name = std::ptr::eq(variant.name, name) || variant.name == name;
        if is_enum && same_name && variant.variant == kind && variant.below.len() == arity {
            Ok(&mut variant.below)
        } else {
            Err(Refusal::Varies)
        }
    }

    #[cold]
    fn new_variant(
        &mut self,
        index: u32,
        name: &'static str,
        kind: VariantKind,
        arity: usize,
        growth: &Growth,
    ) -> Result<usize, Refusal> {
        match self.kind {
            Kind::Enum => self.grow(1, growth)?,
            _ => self.shape(Kind::Enum, 1, growth)?,
        }
        let tag = self.below.len() - 1;
        let variant = &mut self.below[tag];
        (variant.index, variant.name, variant.variant) = (index, name, kind);
        variant.grow(arity, growth)?;
        Ok(tag)
    }
}

/// A byte for lengths below 255, else that byte and four more.
#[inline(always)]
pub(super) fn push_length(length: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
    if length < 255 {
        out.push(length as u8);
        return Ok(());
    }
    let length = u32::try_from(length).map_err(|_| Refusal::TooLarge)?;
    out.push(255);
    out.extend_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Seven bits a byte, least first.
fn write_number(mut number: usize, out: &mut Vec<u8>) {
    while number >= 128 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_number(bytes.len(), out);
    out.extend_from_slice(bytes);
}
