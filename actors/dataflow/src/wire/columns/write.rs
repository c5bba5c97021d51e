//! Gathering columns from rows, and writing them out.

use super::kind::{Kind, VariantKind};
use super::serialize::Cell;
use super::{MAX_COLUMNS, MAX_DEPTH};
use serde::Serialize;
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

/// One position of the type. Fills a cache line: what each value needs lies together.
#[repr(align(64))]
pub(super) struct Column {
    /// Values, lengths or tags.
    pub(super) data: Vec<u8>,
    /// The field it is, where it is one.
    name: Option<&'static str>,
    /// Index of the first column below; of a string, that of its text; of an enum, its place among the enums.
    first: u32,
    /// Number of columns below, but those of variants.
    arity: u32,
    kind: Kind,
    depth: u8,
}

/// A variant seen of an enum.
#[derive(Clone, Copy)]
struct Variant {
    index: u32,
    name: &'static str,
    kind: VariantKind,
    first: usize,
    arity: usize,
}

/// Columns of a type, kept from batch to batch: the shape stays, so that most rows find their columns ready.
pub struct Columns {
    /// The root is the first. Those below a column follow each other.
    pub(super) columns: Vec<Column>,
    /// Variants seen of each enum.
    enums: Vec<Vec<Variant>>,
    grown: bool,
}

impl Default for Columns {
    fn default() -> Self {
        Columns { columns: vec![Column::unseen(0)], enums: Vec::new(), grown: false }
    }
}

impl Column {
    fn unseen(depth: u8) -> Self {
        Column { data: Vec::new(), name: None, first: 0, arity: 0, kind: Kind::Unseen, depth }
    }
}

impl Columns {
    /// Takes rows apart, after forgetting those of the last batch. Returns whether they showed positions of the type
    /// that no row before did.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn gather<T: Serialize>(&mut self, rows: &[T]) -> Result<bool, Refusal> {
        for column in &mut self.columns {
            column.data.clear();
        }
        self.grown = false;
        for row in rows {
            row.serialize(Cell { columns: self, at: 0 })?;
        }
        Ok(self.grown)
    }

    /// Appends the columns gathered to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let bytes: usize = self.columns.iter().map(|column| column.data.len() + 16).sum();
        out.reserve(bytes);
        self.write_column(0, out);
    }

    fn write_column(&self, at: usize, out: &mut Vec<u8>) {
        let column = &self.columns[at];
        let (first, arity) = (column.first as usize, column.arity as usize);
        out.push(column.kind as u8);
        write_bytes(&column.data, out);
        match column.kind {
            Kind::Text | Kind::Bytes => write_bytes(&self.columns[first].data, out),
            Kind::Option | Kind::Seq | Kind::Map => self.write_fields(first, arity, false, out),
            Kind::Tuple | Kind::Struct => {
                write_number(arity, out);
                self.write_fields(first, arity, column.kind == Kind::Struct, out);
            }
            Kind::Enum => {
                let variants = &self.enums[first];
                write_number(variants.len(), out);
                for variant in variants {
                    write_bytes(variant.name.as_bytes(), out);
                    out.push(variant.kind as u8);
                    write_number(variant.arity, out);
                    self.write_fields(variant.first, variant.arity, variant.kind == VariantKind::Struct, out);
                }
            }
            _ => {}
        }
    }

    fn write_fields(&self, first: usize, arity: usize, named: bool, out: &mut Vec<u8>) {
        for at in first..first + arity {
            if named {
                write_bytes(self.columns[at].name.unwrap_or_default().as_bytes(), out);
            }
            self.write_column(at, out);
        }
    }

    /// Appends a value of fixed width.
    #[inline(always)]
    pub(super) fn fixed<const N: usize>(
        &mut self,
        at: usize,
        kind: Kind,
        bytes: [u8; N],
    ) -> Result<(), Refusal> {
        if self.columns[at].kind != kind {
            self.shape(at, kind, 0)?;
        }
        self.columns[at].data.extend_from_slice(&bytes);
        Ok(())
    }

    /// Appends a string or byte string.
    #[inline]
    pub(super) fn heap(&mut self, at: usize, kind: Kind, bytes: &[u8]) -> Result<(), Refusal> {
        let text = self.settle(at, kind, 1)?;
        push_length(bytes.len(), &mut self.columns[at].data)?;
        self.columns[text].data.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends a length or tag.
    #[inline]
    pub(super) fn length(&mut self, at: usize, length: usize) -> Result<(), Refusal> {
        push_length(length, &mut self.columns[at].data)
    }

    /// Makes sure that a column is of a kind with so many columns below, and returns the first of them.
    #[inline(always)]
    pub(super) fn settle(&mut self, at: usize, kind: Kind, arity: usize) -> Result<usize, Refusal> {
        let column = &self.columns[at];
        if column.kind == kind && column.arity as usize == arity {
            return Ok(column.first as usize);
        }
        self.shape(at, kind, arity)
    }

    #[cold]
    fn shape(&mut self, at: usize, kind: Kind, arity: usize) -> Result<usize, Refusal> {
        if self.columns[at].kind != Kind::Unseen {
            return Err(Refusal::Varies);
        }
        let mut first = self.below(at, arity)?;
        if kind == Kind::Enum {
            first = self.enums.len();
            self.enums.push(Vec::new());
        }
        let column = &mut self.columns[at];
        // Both are below the number of columns allowed.
        (column.kind, column.first, column.arity) = (kind, first as u32, arity as u32);
        Ok(first)
    }

    /// Adds columns below one.
    fn below(&mut self, at: usize, arity: usize) -> Result<usize, Refusal> {
        let (first, depth) = (self.columns.len(), self.columns[at].depth + 1);
        if arity > MAX_COLUMNS - first || usize::from(depth) > MAX_DEPTH {
            return Err(Refusal::TooLarge);
        }
        self.columns.extend((0..arity).map(|_| Column::unseen(depth)));
        self.grown = true;
        Ok(first)
    }

    /// Makes sure that a column is the named field.
    #[inline(always)]
    pub(super) fn field(&mut self, at: usize, name: &'static str) -> Result<(), Refusal> {
        match self.columns[at].name {
            Some(known) if std::ptr::eq(known, name) || known == name => Ok(()),
            None => {
                self.columns[at].name = Some(name);
                Ok(())
            }
            Some(_) => Err(Refusal::Varies),
        }
    }

    /// Appends an enum's tag, and returns the first column of the variant.
    #[inline]
    pub(super) fn variant(
        &mut self,
        at: usize,
        index: u32,
        name: &'static str,
        kind: VariantKind,
        arity: usize,
    ) -> Result<usize, Refusal> {
        let place = self.settle(at, Kind::Enum, 0)?;
        let variants = &self.enums[place];
        // Most enums show their variants in few rows; the tag is the place among those seen.
        let seen = match variants.get(index as usize) {
            Some(variant) if variant.index == index => Some(index as usize),
            _ => variants.iter().position(|variant| variant.index == index),
        };
        let Some(tag) = seen else { return self.new_variant(at, index, name, kind, arity) };
        let variant = variants[tag];
        let same_name = std::ptr::eq(variant.name, name) || variant.name == name;
        if !same_name || variant.kind != kind || variant.arity != arity {
            return Err(Refusal::Varies);
        }
        self.length(at, tag)?;
        Ok(variant.first)
    }

    #[cold]
    fn new_variant(
        &mut self,
        at: usize,
        index: u32,
        name: &'static str,
        kind: VariantKind,
        arity: usize,
    ) -> Result<usize, Refusal> {
        let first = self.below(at, arity)?;
        let place = self.columns[at].first as usize;
        let tag = self.enums[place].len();
        if tag == MAX_COLUMNS {
            return Err(Refusal::TooLarge);
        }
        self.enums[place].push(Variant { index, name, kind, first, arity });
        self.length(at, tag)?;
        Ok(first)
    }
}

/// A byte for lengths below 255, else that byte and four more.
#[inline(always)]
fn push_length(length: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
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
