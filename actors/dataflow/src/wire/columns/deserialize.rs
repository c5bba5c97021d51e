//! The serde deserializer that takes each value of a row from its column.

use super::kind::{Kind, VariantKind};
use super::read::Reader;
use crate::wire::error::{DecodeError, Reason};
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, Error as _, Visitor};

/// Where one value comes from.
pub(super) struct Cell<'a, 'de> {
    pub(super) reader: &'a mut Reader<'de>,
    pub(super) at: usize,
}

type Result<T> = std::result::Result<T, DecodeError>;

/// A number whose kind is that of the type reads at once; any other shape is the type's to accept or refuse.
macro_rules! fixed {
    ($($method:ident $visit:ident $type:ty => $kind:ident),* $(,)?) => {
        $(#[inline(always)]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            if self.reader.columns[self.at].kind == Kind::$kind {
                return visitor.$visit(<$type>::from_le_bytes(self.reader.fixed(self.at)?));
            }
            self.any(visitor)
        })*
    };
}

macro_rules! any {
    ($($method:ident)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            self.any(visitor)
        })*
    };
}

impl<'a, 'de> Cell<'a, 'de> {
    /// Reads what was written, as serde shows it.
    fn any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let Cell { reader, at } = self;
        match reader.columns[at].kind {
            Kind::Unseen => Err(reader.fail(at, Reason::Truncated)),
            Kind::Unit => {
                reader.fixed::<1>(at)?;
                visitor.visit_unit()
            }
            Kind::Bool => visitor.visit_bool(reader.present(at)?),
            Kind::I8 => visitor.visit_i8(i8::from_le_bytes(reader.fixed(at)?)),
            Kind::I16 => visitor.visit_i16(i16::from_le_bytes(reader.fixed(at)?)),
            Kind::I32 => visitor.visit_i32(i32::from_le_bytes(reader.fixed(at)?)),
            Kind::I64 => visitor.visit_i64(i64::from_le_bytes(reader.fixed(at)?)),
            Kind::I128 => visitor.visit_i128(i128::from_le_bytes(reader.fixed(at)?)),
            Kind::U8 => visitor.visit_u8(u8::from_le_bytes(reader.fixed(at)?)),
            Kind::U16 => visitor.visit_u16(u16::from_le_bytes(reader.fixed(at)?)),
            Kind::U32 => visitor.visit_u32(u32::from_le_bytes(reader.fixed(at)?)),
            Kind::U64 => visitor.visit_u64(u64::from_le_bytes(reader.fixed(at)?)),
            Kind::U128 => visitor.visit_u128(u128::from_le_bytes(reader.fixed(at)?)),
            Kind::F32 => visitor.visit_f32(f32::from_le_bytes(reader.fixed(at)?)),
            Kind::F64 => visitor.visit_f64(f64::from_le_bytes(reader.fixed(at)?)),
            Kind::Char => visitor.visit_char(reader.char(at)?),
            Kind::Text => visitor.visit_borrowed_str(reader.text(at)?),
            Kind::Bytes => visitor.visit_borrowed_bytes(reader.byte_string(at)?),
            Kind::Option => Cell { reader, at }.option(visitor),
            Kind::Seq => Cell { reader, at }.seq(visitor),
            Kind::Map => {
                let left = reader.count(at)?;
                let first = reader.columns[at].first;
                let mut entries = Entries { reader, first, left };
                let value = visitor.visit_map(&mut entries)?;
                finished(entries.left, entries.reader, at)?;
                Ok(value)
            }
            Kind::Tuple => Cell { reader, at }.fields(visitor),
            Kind::Struct => Cell { reader, at }.named_fields(visitor),
            // As formats without enums of their own have it: the name, or a map of the name to the content.
            Kind::Enum => {
                let tag = reader.tag(at)?;
                let variant = reader.columns[at].variants[tag];
                match variant.kind {
                    VariantKind::Unit => visitor.visit_borrowed_str(variant.name),
                    _ => visitor.visit_map(OneVariant { reader, at, tag, left: true }),
                }
            }
        }
    }

    #[inline]
    fn option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.reader.present(self.at)? {
            let at = self.reader.columns[self.at].first;
            visitor.visit_some(Cell { reader: self.reader, at })
        } else {
            visitor.visit_none()
        }
    }

    #[inline]
    fn seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let left = self.reader.count(self.at)?;
        let below = self.reader.columns[self.at].first;
        let mut items = Items { reader: self.reader, below, left };
        let value = visitor.visit_seq(&mut items)?;
        finished(items.left, items.reader, self.at)?;
        Ok(value)
    }

    #[inline]
    fn fields<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.reader.open_fields(self.at)?;
        let column = &self.reader.columns[self.at];
        fields(self.reader, self.at, column.first, column.arity, visitor)
    }

    fn named_fields<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.reader.open_fields(self.at)?;
        let column = &self.reader.columns[self.at];
        named_fields(self.reader, self.at, column.first, column.arity, visitor)
    }
}

#[inline]
fn fields<'de, V: Visitor<'de>>(
    reader: &mut Reader<'de>,
    at: usize,
    first: usize,
    arity: usize,
    visitor: V,
) -> Result<V::Value> {
    let mut fields = Fields { reader, next: first, end: first + arity };
    let value = visitor.visit_seq(&mut fields)?;
    finished(fields.end - fields.next, fields.reader, at)?;
    Ok(value)
}

fn named_fields<'de, V: Visitor<'de>>(
    reader: &mut Reader<'de>,
    at: usize,
    first: usize,
    arity: usize,
    visitor: V,
) -> Result<V::Value> {
    let mut fields = Fields { reader, next: first, end: first + arity };
    let value = visitor.visit_map(&mut fields)?;
    finished(fields.end - fields.next, fields.reader, at)?;
    Ok(value)
}

/// Values a type left unread would be taken for those of the next row.
#[inline]
fn finished(left: usize, reader: &Reader<'_>, at: usize) -> Result<()> {
    if left == 0 {
        return Ok(());
    }
    Err(reader.fail(at, Reason::Type(format!("the type left {left} of its elements unread"))))
}

impl<'de> de::Deserializer<'de> for Cell<'_, 'de> {
    type Error = DecodeError;

    fixed! {
        deserialize_i8 visit_i8 i8 => I8, deserialize_i16 visit_i16 i16 => I16,
        deserialize_i32 visit_i32 i32 => I32, deserialize_i64 visit_i64 i64 => I64,
        deserialize_i128 visit_i128 i128 => I128, deserialize_u8 visit_u8 u8 => U8,
        deserialize_u16 visit_u16 u16 => U16, deserialize_u32 visit_u32 u32 => U32,
        deserialize_u64 visit_u64 u64 => U64, deserialize_u128 visit_u128 u128 => U128,
        deserialize_f32 visit_f32 f32 => F32, deserialize_f64 visit_f64 f64 => F64,
    }

    any! {
        deserialize_any deserialize_char deserialize_bytes deserialize_byte_buf deserialize_unit
        deserialize_map deserialize_identifier
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.reader.columns[self.at].kind == Kind::Bool {
            return visitor.visit_bool(self.reader.present(self.at)?);
        }
        self.any(visitor)
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.reader.columns[self.at].kind == Kind::Text {
            return visitor.visit_borrowed_str(self.reader.text(self.at)?);
        }
        self.any(visitor)
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.reader.columns[self.at].kind {
            Kind::Option => self.option(visitor),
            // Not as a value that is there: a type that is an option of itself would ask for ever.
            _ => self.any(visitor),
        }
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        self.any(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.reader.columns[self.at].kind {
            Kind::Seq => self.seq(visitor),
            _ => self.any(visitor),
        }
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        match self.reader.columns[self.at].kind {
            Kind::Tuple => self.fields(visitor),
            _ => self.any(visitor),
        }
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        arity: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_tuple(arity, visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        if self.reader.columns[self.at].kind == Kind::Struct && self.reader.fields_are(self.at, names) {
            return self.fields(visitor);
        }
        self.any(visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        if self.reader.columns[self.at].kind != Kind::Enum {
            return Err(self.reader.fail(self.at, Reason::Type("this is no enum".to_string())));
        }
        let tag = self.reader.tag(self.at)?;
        visitor.visit_enum(Variant { reader: self.reader, at: self.at, tag })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.reader.skip(self.at)?;
        visitor.visit_unit()
    }
}

#[inline(always)]
fn read<'de, S: DeserializeSeed<'de>>(reader: &mut Reader<'de>, at: usize, seed: S) -> Result<S::Value> {
    match seed.deserialize(Cell { reader, at }) {
        Ok(value) => Ok(value),
        Err(error) => Err(reader.placed(error, at)),
    }
}

/// Elements of a sequence.
struct Items<'a, 'de> {
    reader: &'a mut Reader<'de>,
    below: usize,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        read(self.reader, self.below, seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// Entries of a map.
struct Entries<'a, 'de> {
    reader: &'a mut Reader<'de>,
    first: usize,
    left: usize,
}

impl<'de> de::MapAccess<'de> for Entries<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        read(self.reader, self.first, seed).map(Some)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        read(self.reader, self.first + 1, seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// Fields of a struct, tuple or variant, in order or by name.
struct Fields<'a, 'de> {
    reader: &'a mut Reader<'de>,
    next: usize,
    end: usize,
}

impl<'de> de::SeqAccess<'de> for Fields<'_, 'de> {
    type Error = DecodeError;

    #[inline(always)]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        if self.next == self.end {
            return Ok(None);
        }
        self.next += 1;
        read(self.reader, self.next - 1, seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.end - self.next)
    }
}

impl<'de> de::MapAccess<'de> for Fields<'_, 'de> {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        if self.next == self.end {
            return Ok(None);
        }
        seed.deserialize(BorrowedStrDeserializer::new(self.reader.columns[self.next].name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        if self.next == self.end {
            return Err(DecodeError::custom("a value was asked for before its key"));
        }
        self.next += 1;
        read(self.reader, self.next - 1, seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.end - self.next)
    }
}

/// One variant of an enum.
struct Variant<'a, 'de> {
    reader: &'a mut Reader<'de>,
    at: usize,
    tag: usize,
}

impl<'de> Variant<'_, 'de> {
    #[inline]
    fn of_kind(&self, kind: VariantKind) -> Result<(usize, usize)> {
        let variant = self.reader.columns[self.at].variants[self.tag];
        if variant.kind == kind {
            return Ok((variant.first, variant.arity));
        }
        let found = format!("variant '{}' is {:?}, the type has {kind:?}", variant.name, variant.kind);
        Err(self.reader.fail(self.at, Reason::Type(found)))
    }
}

impl<'a, 'de> de::EnumAccess<'de> for Variant<'a, 'de> {
    type Error = DecodeError;
    type Variant = Variant<'a, 'de>;

    // By name: numbers of variants differ between the two traits where a variant is skipped by one of them.
    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self)> {
        let name = self.reader.columns[self.at].variants[self.tag].name;
        Ok((seed.deserialize(BorrowedStrDeserializer::new(name))?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn unit_variant(self) -> Result<()> {
        self.of_kind(VariantKind::Unit).map(drop)
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value> {
        let (first, _) = self.of_kind(VariantKind::Newtype)?;
        read(self.reader, first, seed)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        let (first, arity) = self.of_kind(VariantKind::Tuple)?;
        fields(self.reader, self.at, first, arity, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(self, names: &'static [&'static str], visitor: V) -> Result<V::Value> {
        let (first, arity) = self.of_kind(VariantKind::Struct)?;
        if self.reader.variant_fields_are(self.at, self.tag, names) {
            return fields(self.reader, self.at, first, arity, visitor);
        }
        named_fields(self.reader, self.at, first, arity, visitor)
    }
}

/// A variant as a map of one entry, for types that do not know what comes.
struct OneVariant<'a, 'de> {
    reader: &'a mut Reader<'de>,
    at: usize,
    tag: usize,
    left: bool,
}

impl<'de> de::MapAccess<'de> for OneVariant<'_, 'de> {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        if !std::mem::take(&mut self.left) {
            return Ok(None);
        }
        let name = self.reader.columns[self.at].variants[self.tag].name;
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        let variant = self.reader.columns[self.at].variants[self.tag];
        seed.deserialize(Content { reader: self.reader, at: self.at, variant })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(usize::from(self.left))
    }
}

/// Content of a variant, for types that do not know what comes.
struct Content<'a, 'de> {
    reader: &'a mut Reader<'de>,
    at: usize,
    variant: super::read::Variant<'de>,
}

impl<'de> de::Deserializer<'de> for Content<'_, 'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let Content { reader, at, variant } = self;
        match variant.kind {
            VariantKind::Unit => visitor.visit_unit(),
            VariantKind::Newtype => Cell { reader, at: variant.first }.any(visitor),
            VariantKind::Tuple => fields(reader, at, variant.first, variant.arity, visitor),
            VariantKind::Struct => named_fields(reader, at, variant.first, variant.arity, visitor),
        }
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
