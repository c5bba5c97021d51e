//! Text, CSV and JSON formats for hurtig: bytes to records and back, without any I/O.
//!
//! A [`DecodeFormat`] makes a [`Decoder`] per file, which turns whole blocks of bytes into many records at a time; an
//! [`EncodeFormat`] makes an [`Encoder`] per file. [`TextLines`], [`Csv`] and [`JsonLines`] are both. What happens to
//! input that does not parse is an [`OnError`] policy: [`Fail`], [`Skip`] or [`SideOutput`].
//!
//! # Invariants
//! * A decoder sees only whole records: what is cut off at the end of a block comes again with the next block.
//! * A decoder never stops for good at a malformed record: it says where the record lies and goes on behind it.
//! * Nothing here knows files; connectors add the name and the line.
//!
//! # Decisions
//! * 2026-11: own CSV decoder instead of the csv crate's reader: it borrows fields from the block instead of copying
//!   them and hands a struct its columns in the struct's order instead of matching names for every record.
//! * 2026-11: JSON without escapes is read by our own 300 lines over serde_json, which reads the rest: a record of 240 bytes
//!   of which three fields are wanted takes 107 ns, with serde_json 222, with sonic-rs 160 and other errors.
//! * 2026-11: where strings of JSON end is found for 512 bytes at once, as a list, which processors with AVX-512 write in
//!   steps of 64 bytes, and a name and its string are read together: 48 ns instead of 115 for such a record on a Sapphire
//!   Rapids (the 107 above are of an EPYC). The list is filled where it stays, its length and kind are single words: moved,
//!   and copied as a pair just after it was written, it took 77.
//! * 2026-11: [`for_each_word`] cuts by the same list: 2.5 ns a word instead of 8. It takes a closure, since an iterator would
//!   move its list of 1 KB to where it is used.
//! * 2026-11: policies are types, not values of one enum: with [`SideOutput`] the stream's record type changes.

mod csv;
mod decode;
mod encode;
mod error;
mod json;
mod on_error;
mod places;
mod text;
mod words;

pub use crate::csv::{Csv, CsvFound, CsvScanner};
pub use decode::{Block, DecodeFormat, Decoded, Decoder, Malformed, Stop, byte_order_mark};
pub use encode::{EncodeFormat, Encoder};
pub use error::{Error, ErrorKind};
pub use json::{JsonLines, read_json};
pub use on_error::{BadLine, Fail, OnError, SideOutput, Skip};
pub use text::TextLines;
pub use words::for_each_word;
