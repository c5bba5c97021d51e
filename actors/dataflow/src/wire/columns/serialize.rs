//! The serde serializer that puts each value of a row into its column.

use super::kind::{Kind, VariantKind};
use super::write::{Columns, Refusal};
use serde::ser::{self, Serialize};
use std::fmt::{self, Write as _};

/// Where one value goes.
pub(super) struct Cell<'a> {
    pub(super) columns: &'a mut Columns,
    pub(super) at: usize,
}

macro_rules! fixed {
    ($($method:ident $type:ty => $kind:ident),* $(,)?) => {
        $(#[inline(always)]
        fn $method(self, value: $type) -> Result<(), Refusal> {
            self.columns.fixed(self.at, Kind::$kind, value.to_le_bytes())
        })*
    };
}

impl<'a> ser::Serializer for Cell<'a> {
    type Ok = ();
    type Error = Refusal;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Fields<'a>;
    type SerializeTupleStruct = Fields<'a>;
    type SerializeTupleVariant = Fields<'a>;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    fixed! {
        serialize_i8 i8 => I8, serialize_i16 i16 => I16, serialize_i32 i32 => I32, serialize_i64 i64 => I64,
        serialize_i128 i128 => I128, serialize_u8 u8 => U8, serialize_u16 u16 => U16, serialize_u32 u32 => U32,
        serialize_u64 u64 => U64, serialize_u128 u128 => U128, serialize_f32 f32 => F32, serialize_f64 f64 => F64,
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Refusal> {
        self.columns.fixed(self.at, Kind::Bool, [u8::from(value)])
    }

    #[inline]
    fn serialize_char(self, value: char) -> Result<(), Refusal> {
        self.columns.fixed(self.at, Kind::Char, u32::from(value).to_le_bytes())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Refusal> {
        self.columns.heap(self.at, Kind::Text, value.as_bytes())
    }

    fn collect_str<T: ?Sized + fmt::Display>(self, value: &T) -> Result<(), Refusal> {
        let below = self.columns.settle(self.at, Kind::Text, 1)?;
        let heap = &mut self.columns.columns[below].data;
        let before = heap.len();
        write!(Utf8(heap), "{value}").map_err(|_| Refusal::Failed)?;
        let length = heap.len() - before;
        self.columns.length(self.at, length)
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Refusal> {
        self.columns.heap(self.at, Kind::Bytes, value)
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Refusal> {
        self.columns.settle(self.at, Kind::Option, 1)?;
        self.columns.length(self.at, 0)
    }

    #[inline]
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), Refusal> {
        let below = self.columns.settle(self.at, Kind::Option, 1)?;
        self.columns.length(self.at, 1)?;
        value.serialize(Cell { columns: self.columns, at: below })
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Refusal> {
        self.columns.fixed(self.at, Kind::Unit, [0])
    }

    #[inline]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refusal> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(self, _: &'static str, index: u32, name: &'static str) -> Result<(), Refusal> {
        self.columns.variant(self.at, index, name, VariantKind::Unit, 0)?;
        Ok(())
    }

    #[inline]
    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refusal> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        index: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), Refusal> {
        let below = self.columns.variant(self.at, index, name, VariantKind::Newtype, 1)?;
        value.serialize(Cell { columns: self.columns, at: below })
    }

    #[inline]
    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a>, Refusal> {
        let below = self.columns.settle(self.at, Kind::Seq, 1)?;
        Ok(Items { columns: self.columns, at: self.at, below, count: 0 })
    }

    #[inline]
    fn serialize_tuple(self, arity: usize) -> Result<Fields<'a>, Refusal> {
        Fields::new(self, Kind::Tuple, arity)
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, arity: usize) -> Result<Fields<'a>, Refusal> {
        Fields::new(self, Kind::Tuple, arity)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        name: &'static str,
        arity: usize,
    ) -> Result<Fields<'a>, Refusal> {
        let next = self.columns.variant(self.at, index, name, VariantKind::Tuple, arity)?;
        Ok(Fields { columns: self.columns, next, end: next + arity })
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Entries<'a>, Refusal> {
        // A map of unknown length is most often a flattened struct, whose keys and kinds of values vary.
        if length.is_none() {
            return Err(Refusal::Varies);
        }
        let below = self.columns.settle(self.at, Kind::Map, 2)?;
        Ok(Entries { columns: self.columns, at: self.at, below, count: 0 })
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, arity: usize) -> Result<Fields<'a>, Refusal> {
        Fields::new(self, Kind::Struct, arity)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        name: &'static str,
        arity: usize,
    ) -> Result<Fields<'a>, Refusal> {
        let next = self.columns.variant(self.at, index, name, VariantKind::Struct, arity)?;
        Ok(Fields { columns: self.columns, next, end: next + arity })
    }
}

/// Elements of a sequence.
pub(super) struct Items<'a> {
    columns: &'a mut Columns,
    at: usize,
    below: usize,
    count: usize,
}

impl ser::SerializeSeq for Items<'_> {
    type Ok = ();
    type Error = Refusal;

    #[inline]
    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Refusal> {
        self.count += 1;
        value.serialize(Cell { columns: self.columns, at: self.below })
    }

    #[inline]
    fn end(self) -> Result<(), Refusal> {
        self.columns.length(self.at, self.count)
    }
}

/// Entries of a map.
pub(super) struct Entries<'a> {
    columns: &'a mut Columns,
    at: usize,
    below: usize,
    /// Keys and values written.
    count: usize,
}

impl Entries<'_> {
    #[inline]
    fn put<T: ?Sized + Serialize>(&mut self, part: usize, value: &T) -> Result<(), Refusal> {
        if self.count % 2 != part {
            return Err(Refusal::Failed);
        }
        self.count += 1;
        value.serialize(Cell { columns: self.columns, at: self.below + part })
    }
}

impl ser::SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = Refusal;

    #[inline]
    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), Refusal> {
        self.put(0, key)
    }

    #[inline]
    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Refusal> {
        self.put(1, value)
    }

    #[inline]
    fn end(self) -> Result<(), Refusal> {
        if self.count % 2 != 0 {
            return Err(Refusal::Failed);
        }
        self.columns.length(self.at, self.count / 2)
    }
}

/// Fields of a struct, tuple or variant.
pub(super) struct Fields<'a> {
    columns: &'a mut Columns,
    next: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    #[inline]
    fn new(cell: Cell<'a>, kind: Kind, arity: usize) -> Result<Self, Refusal> {
        let next = cell.columns.settle(cell.at, kind, arity)?;
        if arity == 0 {
            cell.columns.length(cell.at, 0)?;
        }
        Ok(Fields { columns: cell.columns, next, end: next + arity })
    }

    #[inline(always)]
    fn put<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Refusal> {
        let at = self.next;
        if at == self.end {
            return Err(Refusal::Failed);
        }
        self.next += 1;
        value.serialize(Cell { columns: self.columns, at })
    }

    #[inline(always)]
    fn named<T: ?Sized + Serialize>(&mut self, name: &'static str, value: &T) -> Result<(), Refusal> {
        if self.next < self.end {
            self.columns.field(self.next, name)?;
        }
        self.put(value)
    }

    #[inline(always)]
    fn finish(self) -> Result<(), Refusal> {
        if self.next == self.end { Ok(()) } else { Err(Refusal::Failed) }
    }
}

macro_rules! fields {
    ($($trait:ident $method:ident),*) => {
        $(impl ser::$trait for Fields<'_> {
            type Ok = ();
            type Error = Refusal;

            #[inline(always)]
            fn $method<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Refusal> {
                self.put(value)
            }

            #[inline(always)]
            fn end(self) -> Result<(), Refusal> {
                self.finish()
            }
        })*
    };
}

macro_rules! named_fields {
    ($($trait:ident),*) => {
        $(impl ser::$trait for Fields<'_> {
            type Ok = ();
            type Error = Refusal;

            #[inline(always)]
            fn serialize_field<T: ?Sized + Serialize>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Refusal> {
                self.named(name, value)
            }

            fn skip_field(&mut self, _: &'static str) -> Result<(), Refusal> {
                Err(Refusal::Varies)
            }

            #[inline(always)]
            fn end(self) -> Result<(), Refusal> {
                self.finish()
            }
        })*
    };
}

fields!(SerializeTuple serialize_element, SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field);
named_fields!(SerializeStruct, SerializeStructVariant);

/// Takes formatted text.
struct Utf8<'a>(&'a mut Vec<u8>);

impl fmt::Write for Utf8<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
