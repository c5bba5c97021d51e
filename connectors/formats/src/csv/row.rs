//! Makes a record of the fields of one CSV row.
//!
//! A struct could be given its columns as a map, whose names are matched for every row. Since a struct says which
//! fields it has, the columns are instead put into its order once and given as a sequence. The first row decides
//! whether that works for the type; where it does not, the map is used.

use super::field::{Bad, FieldDeserializer};
use super::scan::Scanner;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::cell::{Cell, RefCell};

/// One row.
pub(super) struct Row<'a> {
    /// The bytes the fields were found in.
    pub(super) text: &'a str,
    /// The fields.
    pub(super) scanner: &'a Scanner,
    /// Names of the columns, if they have names.
    pub(super) header: Option<&'a Vec<String>>,
}

/// How a struct gets its columns.
#[derive(Clone)]
pub(super) enum Plan {
    /// No row was read yet.
    Undecided,
    /// In this order, as a sequence.
    Ordered(Vec<usize>),
    /// As a map.
    ByName,
}

/// Makes a record of a row, or says which column is bad, from 1, and why.
pub(super) fn parse<T: DeserializeOwned>(row: &Row<'_>, plan: &mut Plan) -> Result<T, (u64, String)> {
    let at = Cell::new(None);
    let trial = RefCell::new(None);
    let run = |plan: &Plan| {
        at.set(None);
        T::deserialize(RowDeserializer { row, plan, at: &at, trial: &trial })
    };
    let result = match plan {
        Plan::Undecided => {
            let tried = run(plan);
            match (trial.take(), tried) {
                // Not a struct, or no names.
                (None, tried) => tried,
                (Some(Trial { order, taken }), Ok(record)) if taken == order.len() => {
                    *plan = Plan::Ordered(order);
                    Ok(record)
                }
                (Some(_), _) => {
                    let by_name = run(&Plan::ByName);
                    if by_name.is_ok() {
                        *plan = Plan::ByName;
                    }
                    by_name
                }
            }
        }
        plan => run(plan),
    };
    result.map_err(|error| (at.get().map_or(0, |column: usize| column as u64 + 1), error.0))
}

/// What the first row has shown: the order for a sequence, and how many columns of it the struct took.
struct Trial {
    order: Vec<usize>,
    taken: usize,
}

#[derive(Clone, Copy)]
struct RowDeserializer<'de, 'p> {
    row: &'p Row<'de>,
    plan: &'p Plan,
    /// The column being read.
    at: &'p Cell<Option<usize>>,
    trial: &'p RefCell<Option<Trial>>,
}

impl<'de, 'p: 'de> RowDeserializer<'de, 'p> {
    #[inline(always)]
    fn field(&self, column: usize) -> Result<FieldDeserializer<'de>, Bad> {
        self.at.set(Some(column));
        match self.row.scanner.field(self.row.text, column) {
            Some(text) => Ok(FieldDeserializer { text }),
            None => Err(self.too_few()),
        }
    }

    #[cold]
    fn too_few(&self) -> Bad {
        Bad(format!("the line has only {} fields", self.row.scanner.len()))
    }

    fn columns(self) -> Columns<'de, 'p, std::ops::Range<usize>> {
        Columns { row: self, order: 0..self.row.scanner.len(), taken: 0 }
    }

    fn named(self) -> Result<Named<'de, 'p>, Bad> {
        match self.row.header {
            Some(header) => Ok(Named { row: self, header, next: 0 }),
            None => Err(Bad("columns have no names: there is no header".to_string())),
        }
    }
}

/// Columns in some order.
struct Columns<'de, 'p, O> {
    row: RowDeserializer<'de, 'p>,
    order: O,
    taken: usize,
}

impl<'de, 'p: 'de, O: Iterator<Item = usize>> SeqAccess<'de> for &mut Columns<'de, 'p, O> {
    type Error = Bad;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Bad> {
        match self.order.next() {
            Some(column) => {
                self.taken += 1;
                let value = seed.deserialize(self.row.field(column)?)?;
                self.row.at.set(None);
                Ok(Some(value))
            }
            None => Ok(None),
        }
    }
}

/// Columns with their names.
struct Named<'de, 'p> {
    row: RowDeserializer<'de, 'p>,
    header: &'de [String],
    next: usize,
}

impl<'de, 'p: 'de> MapAccess<'de> for Named<'de, 'p> {
    type Error = Bad;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Bad> {
        match self.header.get(self.next) {
            Some(name) => seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Bad> {
        let value = seed.deserialize(self.row.field(self.next)?)?;
        self.row.at.set(None);
        self.next += 1;
        Ok(value)
    }
}

/// Where the columns of a header stand for the given fields, if each stands there exactly once.
fn order(header: &[String], fields: &[&str]) -> Option<Vec<usize>> {
    let column = |field: &&str| {
        let mut found = header.iter().enumerate().filter(|(_, name)| name == field).map(|(at, _)| at);
        found.next().filter(|_| found.next().is_none())
    };
    fields.iter().map(column).collect()
}

macro_rules! first_column {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
            self.field(0)?.$method(visitor)
        }
    )*};
}

impl<'de, 'p: 'de> Deserializer<'de> for RowDeserializer<'de, 'p> {
    type Error = Bad;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        match self.row.header {
            Some(_) => visitor.visit_map(self.named()?),
            None => visitor.visit_seq(&mut self.columns()),
        }
    }

    first_column! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32
        deserialize_f64 deserialize_char deserialize_str deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_identifier
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Bad> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_seq(&mut self.columns())
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_seq(&mut self.columns())
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Bad> {
        visitor.visit_seq(&mut self.columns())
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_map(self.named()?)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Bad> {
        let Some(header) = self.row.header else { return visitor.visit_seq(&mut self.columns()) };
        match self.plan {
            Plan::Ordered(order) => {
                visitor.visit_seq(&mut Columns { row: self, order: order.iter().copied(), taken: 0 })
            }
            Plan::ByName => visitor.visit_map(self.named()?),
            Plan::Undecided => {
                let Some(order) = order(header, fields) else {
                    *self.trial.borrow_mut() = Some(Trial { order: Vec::new(), taken: usize::MAX });
                    return Err(Bad("columns are not the fields".to_string()));
                };
                let mut columns = Columns { row: self, order: order.iter().copied(), taken: 0 };
                let result = visitor.visit_seq(&mut columns);
                let taken = columns.taken;
                *self.trial.borrow_mut() = Some(Trial { order, taken });
                result
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Bad> {
        self.field(0)?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_unit()
    }
}
