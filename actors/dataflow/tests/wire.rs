//! Batches and elements come back from bytes as they were, whatever the type, and no bytes harm a reader.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as tests")]

#[path = "wire/any_bytes.rs"]
mod any_bytes;
#[path = "wire/elements.rs"]
mod elements;
#[path = "wire/hard_types.rs"]
mod hard_types;
#[path = "wire/round_trip.rs"]
mod round_trip;
#[path = "wire/types.rs"]
mod types;
