//! Makes batches of events, column by column.

use super::columns::{Columns, FieldKind};
use super::model::{Event, Kind, Model};
use crate::changes::Changes;
use crate::connectors::random::longs;
use crate::error::SqlError;
use arrow::array::{ArrayRef, Int32Array, RecordBatch, RecordBatchOptions};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Fields, SchemaRef};
use hurtig_dataflow::OpResult;
use hurtig_datastream::Numbers;
use std::sync::Arc;

/// Fields of a person. Their places are those that [`person`] names.
const PERSON: [(&str, FieldKind); 8] = [
    ("id", FieldKind::Long),
    ("name", FieldKind::Text(12)),
    ("emailAddress", FieldKind::Text(14)),
    ("creditCard", FieldKind::Text(19)),
    ("city", FieldKind::Text(9)),
    ("state", FieldKind::Text(2)),
    ("dateTime", FieldKind::Time),
    ("extra", FieldKind::Text(140)),
];

const AUCTION: [(&str, FieldKind); 10] = [
    ("id", FieldKind::Long),
    ("itemName", FieldKind::Text(11)),
    ("description", FieldKind::Text(52)),
    ("initialBid", FieldKind::Long),
    ("reserve", FieldKind::Long),
    ("dateTime", FieldKind::Time),
    ("expires", FieldKind::Time),
    ("seller", FieldKind::Long),
    ("category", FieldKind::Long),
    ("extra", FieldKind::Text(400)),
];

const BID: [(&str, FieldKind); 7] = [
    ("auction", FieldKind::Long),
    ("bidder", FieldKind::Long),
    ("price", FieldKind::Long),
    ("channel", FieldKind::Text(9)),
    ("url", FieldKind::Text(72)),
    ("dateTime", FieldKind::Time),
    ("extra", FieldKind::Text(70)),
];

const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] =
    ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const FIRST_CATEGORY: i64 = 10;
const CATEGORIES: u64 = 5;

/// A column that a query wants.
enum Column {
    /// `event_type`
    Type(DataType),
    /// The row of one kind, with the field of the model that each declared one is.
    Row { kind: Kind, fields: Fields, order: Vec<usize> },
}

/// The columns that a query wants.
pub(super) struct Layout {
    schema: SchemaRef,
    columns: Vec<Column>,
}

impl Layout {
    /// Finds the columns of a schema in the model.
    pub(super) fn of(schema: SchemaRef) -> Result<Self, SqlError> {
        let columns = schema.fields().iter().map(|field| Column::of(field.name(), field.data_type()));
        let columns = columns.collect::<Result<_, _>>()?;
        Ok(Layout { schema, columns })
    }

    /// Makes the events of some numbers.
    pub(super) fn make(&self, model: &Model, numbers: Numbers) -> OpResult<Changes> {
        let rows = numbers.count;
        let settings = &model.settings;
        let total = settings.persons + settings.auctions + settings.bids;
        let columns = |kind: Kind, share: u64| {
            self.columns.iter().find_map(|column| match column {
                Column::Row { kind: of, order, .. } if *of == kind => {
                    Some(Columns::new(kind.fields(), order, rows, rows * share as usize / total as usize + 1))
                }
                _ => None,
            })
        };
        let mut persons = columns(Kind::Person, settings.persons);
        let mut auctions = columns(Kind::Auction, settings.auctions);
        let mut bids = columns(Kind::Bid, settings.bids);
        let mut kinds = Vec::with_capacity(rows);
        for (row, number) in numbers.iter().enumerate() {
            let event = model.event(number);
            kinds.push(event.kind);
            match event.kind {
                Kind::Person => persons.iter_mut().for_each(|columns| person(model, &event, row, columns)),
                Kind::Auction => auctions.iter_mut().for_each(|columns| auction(model, &event, row, columns)),
                Kind::Bid => {
                    if let Some(columns) = &mut bids {
                        bid(model, &event, row, columns);
                    }
                }
            }
        }
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            arrays.push(match column {
                Column::Type(DataType::Int64) => {
                    longs(kinds.iter().map(|kind| *kind as i64).collect(), None, &DataType::Int64)
                }
                Column::Type(_) => {
                    Arc::new(Int32Array::from_iter_values(kinds.iter().map(|kind| *kind as i32)))
                }
                Column::Row { kind, fields, order } => {
                    let present = BooleanBuffer::collect_bool(rows, |row| kinds[row] == *kind);
                    let columns = match kind {
                        Kind::Person => persons.take(),
                        Kind::Auction => auctions.take(),
                        Kind::Bid => bids.take(),
                    };
                    let columns = columns.ok_or("a column is declared twice")?;
                    columns.finish(fields, order, rows, NullBuffer::new(present))?
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        Ok(Changes::append_only(batch))
    }
}

impl Kind {
    fn fields(self) -> &'static [(&'static str, FieldKind)] {
        match self {
            Kind::Person => &PERSON,
            Kind::Auction => &AUCTION,
            Kind::Bid => &BID,
        }
    }
}

impl Column {
    fn of(name: &str, data_type: &DataType) -> Result<Self, SqlError> {
        let wrong = |wanted: &str| {
            let message = format!("column '{name}' of connector 'nexmark' cannot be {data_type}");
            Err(SqlError::connector(message).with_hint(format!("declare it as {wanted}")))
        };
        let kind = match name {
            "event_type" if matches!(data_type, DataType::Int32 | DataType::Int64) => {
                return Ok(Column::Type(data_type.clone()));
            }
            "event_type" => return wrong("INT"),
            "person" => Kind::Person,
            "auction" => Kind::Auction,
            "bid" => Kind::Bid,
            _ => {
                return Err(SqlError::connector(format!("connector 'nexmark' has no column '{name}'"))
                    .with_hint("its columns are event_type, person, auction and bid"));
            }
        };
        let DataType::Struct(fields) = data_type else { return wrong("ROW<…>") };
        let order = fields.iter().map(|field| place(name, kind, field.name(), field.data_type()));
        let order = order.collect::<Result<Vec<_>, _>>()?;
        Ok(Column::Row { kind, fields: fields.clone(), order })
    }
}

/// Where the model has a declared field.
fn place(row: &str, kind: Kind, name: &str, data_type: &DataType) -> Result<usize, SqlError> {
    let fields = kind.fields();
    let Some(place) = fields.iter().position(|(field, _)| field.eq_ignore_ascii_case(name)) else {
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        return Err(SqlError::connector(format!(
            "column '{row}' of connector 'nexmark' has no field '{name}'"
        ))
        .with_hint(format!("its fields are {}", names.join(", "))));
    };
    let (fits, wanted) = match fields[place].1 {
        FieldKind::Long => (*data_type == DataType::Int64, "BIGINT"),
        FieldKind::Time => (matches!(data_type, DataType::Timestamp(..)), "TIMESTAMP(3)"),
        FieldKind::Text(_) => (*data_type == DataType::Utf8, "STRING"),
    };
    if !fits {
        let message = format!("field '{row}.{name}' of connector 'nexmark' cannot be {data_type}");
        return Err(SqlError::connector(message).with_hint(format!("declare it as {wanted}")));
    }
    Ok(place)
}

fn one_of<'a>(texts: &[&'a str], lot: u64) -> &'a [u8] {
    texts[lot as usize].as_bytes()
}

fn person(model: &Model, event: &Event, row: usize, columns: &mut Columns) {
    let draws = |field| event.origin.field(field);
    columns.long(0, row, || event.person_id());
    let mut size = 8;
    size += columns.measured(1, row, |out| {
        let mut draws = draws(1);
        out.extend_from_slice(one_of(&FIRST_NAMES, draws.below(FIRST_NAMES.len() as u64)));
        out.push(b' ');
        out.extend_from_slice(one_of(&LAST_NAMES, draws.below(LAST_NAMES.len() as u64)));
    });
    size += columns.measured(2, row, |out| {
        let mut draws = draws(2);
        draws.text(7, b' ', out);
        out.push(b'@');
        draws.text(5, b' ', out);
        out.extend_from_slice(b".com");
    });
    size += columns.measured(3, row, |out| {
        let mut draws = draws(3);
        for group in 0..4 {
            if group > 0 {
                out.push(b' ');
            }
            let number = draws.below(10_000);
            out.extend([1_000, 100, 10, 1].map(|place| b'0' + (number / place % 10) as u8));
        }
    });
    size += columns.measured(4, row, |out| {
        out.extend_from_slice(one_of(&CITIES, draws(4).below(CITIES.len() as u64)));
    });
    size += columns.measured(5, row, |out| {
        out.extend_from_slice(one_of(&STATES, draws(5).below(STATES.len() as u64)));
    });
    columns.long(6, row, || event.at);
    columns.text(7, row, |out| draws(7).fill_up(size, model.settings.person_bytes, out));
}

fn auction(model: &Model, event: &Event, row: usize, columns: &mut Columns) {
    let draws = |field| event.origin.field(field);
    columns.long(0, row, || event.auction_id());
    let mut size = 6 * 8;
    size += columns.measured(1, row, |out| draws(1).text(20, b' ', out));
    size += columns.measured(2, row, |out| draws(2).text(100, b' ', out));
    let initial_bid = || model.prices.draw(&mut draws(3));
    columns.long(3, row, initial_bid);
    columns.long(4, row, || initial_bid() + model.prices.draw(&mut draws(4)));
    columns.long(5, row, || event.at);
    columns.long(6, row, || event.at + model.auction_ms(event, &mut draws(6)));
    columns.long(7, row, || model.seller(event, &mut draws(7)));
    columns.long(8, row, || FIRST_CATEGORY + draws(8).below(CATEGORIES) as i64);
    columns.text(9, row, |out| draws(9).fill_up(size, model.settings.auction_bytes, out));
}

#[inline]
fn bid(model: &Model, event: &Event, row: usize, columns: &mut Columns) {
    let draws = |field| event.origin.field(field);
    columns.long(0, row, || model.auction(event, &mut draws(0)));
    columns.long(1, row, || model.bidder(event, &mut draws(1)));
    columns.long(2, row, || model.prices.draw(&mut draws(2)));
    if columns.has(3) || columns.has(4) {
        let (channel, url) = model.channel(&mut draws(3));
        columns.text(3, row, |out| out.extend_from_slice(channel));
        columns.text(4, row, |out| out.extend_from_slice(url));
    }
    columns.long(5, row, || event.at);
    columns.text(6, row, |out| draws(6).fill_up(4 * 8, model.settings.bid_bytes, out));
}
