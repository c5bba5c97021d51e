//! The serde serializer that puts each value of a row into its column.

use super::kind::{Kind, VariantKind};
use super::write::{Column, Growth, Refusal, push_length};
use serde::ser::{self, Serialize};
use std::fmt::{self, Write as _};

/// Where one value goes.
pub(super) struct Slot<'a> {
    pub(super) column: &'a mut Column,
    pub(super) growth: &'a Growth,
}

macro_rules! fixed {
    ($($method:ident $type:ty => $kind:ident),* $(,)?) => {
        $(#[inline(always)]
        fn $method(self, value: $type) -> Result<(), Refusal> {
            self.column.fixed(Kind::$kind, value.to_le_bytes(), self.growth)
        })*
    };
}

impl<'a> ser::Serializer for Slot<'a> {
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
        self.column.fixed(Kind::Bool, [u8::from(value)], self.growth)
    }

    #[inline]
    fn serialize_char(self, value: char) -> Result<(), Refusal> {
        self.column.fixed(Kind::Char, u32::from(value).to_le_bytes(), self.growth)
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Refusal> {
        self.column.heap(Kind::Text, value.as_bytes(), self.growth)
    }

    fn collect_str<T: ?Sized + fmt::Display>(self, value: &T) -> Result<(), Refusal> {
        let text = self.column.text(Kind::Text, self.growth)?;
        let before = text.len();
        write!(Utf8(text), "{value}").map_err(|_| Refusal::Failed)?;
        let length = text.len() - before;
        self.column.length(length)
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Refusal> {
        self.column.heap(Kind::Bytes, value, self.growth)
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Refusal> {
        self.column.settle(Kind::Option, 1, self.growth)?.0.push(0);
        Ok(())
    }

    #[inline]
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), Refusal> {
        let (present, below) = self.column.settle(Kind::Option, 1, self.growth)?;
        present.push(1);
        value.serialize(only(below, self.growth)?)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Refusal> {
        self.column.fixed(Kind::Unit, [0], self.growth)
    }

    #[inline]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refusal> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(self, _: &'static str, index: u32, name: &'static str) -> Result<(), Refusal> {
        self.column.variant(index, name, VariantKind::Unit, 0, self.growth)?;
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
        let below = self.column.variant(index, name, VariantKind::Newtype, 1, self.growth)?;
        value.serialize(only(below, self.growth)?)
    }

    #[inline]
    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a>, Refusal> {
        let (lengths, below) = self.column.settle(Kind::Seq, 1, self.growth)?;
        let Slot { column, growth } = only(below, self.growth)?;
        Ok(Items { lengths, column, growth, count: 0 })
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
        let below = self.column.variant(index, name, VariantKind::Tuple, arity, self.growth)?;
        Ok(Fields { left: below.iter_mut(), growth: self.growth })
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Entries<'a>, Refusal> {
        // A map of unknown length is most often a flattened struct, whose keys and kinds of values vary.
        if length.is_none() {
            return Err(Refusal::Varies);
        }
        let (lengths, below) = self.column.settle(Kind::Map, 2, self.growth)?;
        Ok(Entries { lengths, below, growth: self.growth, count: 0 })
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
        let below = self.column.variant(index, name, VariantKind::Struct, arity, self.growth)?;
        Ok(Fields { left: below.iter_mut(), growth: self.growth })
    }
}

/// The single column below another.
#[inline(always)]
fn only<'a>(below: &'a mut [Column], growth: &'a Growth) -> Result<Slot<'a>, Refusal> {
    match below {
        [column] => Ok(Slot { column, growth }),
        _ => Err(Refusal::Failed),
    }
}

/// Elements of a sequence.
pub(super) struct Items<'a> {
    lengths: &'a mut Vec<u8>,
    column: &'a mut Column,
    growth: &'a Growth,
    count: usize,
}

impl ser::SerializeSeq for Items<'_> {
    type Ok = ();
    type Error = Refusal;

    #[inline]
    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Refusal> {
        self.count += 1;
        value.serialize(Slot { column: self.column, growth: self.growth })
    }

    #[inline]
    fn end(self) -> Result<(), Refusal> {
        push_length(self.count, self.lengths)
    }
}

/// Entries of a map.
pub(super) struct Entries<'a> {
    lengths: &'a mut Vec<u8>,
    below: &'a mut [Column],
    growth: &'a Growth,
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
        value.serialize(Slot { column: &mut self.below[part], growth: self.growth })
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
        if !self.count.is_multiple_of(2) {
            return Err(Refusal::Failed);
        }
        push_length(self.count / 2, self.lengths)
    }
}

/// Fields of a struct, tuple or variant.
pub(super) struct Fields<'a> {
    left: std::slice::IterMut<'a, Column>,
    growth: &'a Growth,
}

impl<'a> Fields<'a> {
    #[inline(always)]
    fn new(slot: Slot<'a>, kind: Kind, arity: usize) -> Result<Self, Refusal> {
        let (alone, below) = slot.column.settle(kind, arity, slot.growth)?;
        if arity == 0 {
            alone.push(0);
        }
        Ok(Fields { left: below.iter_mut(), growth: slot.growth })
    }

    #[inline(always)]
    fn put<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Refusal> {
        let Some(column) = self.left.next() else { return Err(Refusal::Failed) };
        value.serialize(Slot { column, growth: self.growth })
    }

    #[inline(always)]
    fn named<T: ?Sized + Serialize>(&mut self, name: &'static str, value: &T) -> Result<(), Refusal> {
        let Some(column) = self.left.next() else { return Err(Refusal::Failed) };
        column.field(name)?;
        value.serialize(Slot { column, growth: self.growth })
    }

    #[inline(always)]
    fn finish(self) -> Result<(), Refusal> {
        if self.left.len() == 0 { Ok(()) } else { Err(Refusal::Failed) }
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
