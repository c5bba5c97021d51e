//! The Yahoo Streaming Benchmark (Chintapalli et al., "Benchmarking Streaming Computation Engines", 2016), with events
//! made in memory: JSON is parsed, views are kept, their advertisement is joined with its campaign, and views are
//! counted per campaign in windows of 10 s.

use super::mix;
use arrayvec::ArrayString;
use hurtig::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// Number of campaigns.
pub const CAMPAIGNS: u64 = 100;
const ADS: u64 = 1_000;
const USERS: u64 = 100;

/// An identifier as it stands in the JSON.
pub type Id = ArrayString<36>;

/// What is read of an event.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Whether somebody has seen the advertisement.
    pub is_view: bool,
    /// The advertisement.
    pub ad: Id,
    /// When, in milliseconds.
    pub time: i64,
}

fn identifier(kind: u64, number: u64) -> Id {
    let hex = format!("{:016x}{:016x}", mix(kind * 1_000_003 + number), mix(kind * 7_000_003 + number));
    let mut id = Id::new();
    let _ = write!(id, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    id
}

/// What events are made of: each piece is a value with the text round it.
pub struct Maker {
    users: Vec<String>,
    pages: Vec<String>,
    ads: Vec<String>,
    /// With their lengths, filled up with blanks.
    kinds: Vec<(usize, String)>,
}

/// Bytes of the longest kind, and some blanks.
const KIND_BYTES: usize = 72;

const TYPES: [&str; 3] = ["view", "click", "purchase"];
const AD_TYPES: [&str; 5] = ["banner", "modal", "sponsored-search", "mail", "mobile"];

impl Default for Maker {
    fn default() -> Self {
        Maker::new()
    }
}

impl Maker {
    /// All pieces.
    pub fn new() -> Self {
        let all = |before: &str, kind, count| -> Vec<String> {
            (0..count).map(|number| format!("{before}{}\"", identifier(kind, number))).collect()
        };
        let kinds = TYPES.iter().flat_map(|event| AD_TYPES.iter().map(move |ad| (event, ad)));
        Maker {
            users: all("{\"user_id\":\"", 1, USERS),
            pages: all(",\"page_id\":\"", 2, USERS),
            ads: all(",\"ad_id\":\"", 3, ADS),
            kinds: kinds
                .map(|(event, ad)| {
                    let kind = format!(",\"ad_type\":\"{ad}\",\"event_type\":\"{event}\",\"event_time\":\"");
                    (kind.len(), format!("{kind:KIND_BYTES$}"))
                })
                .collect(),
        }
    }

    /// An event as JSON. Made of pieces of a length that the compiler knows: they are copied without a call.
    pub fn make(&self, index: u64, time: i64) -> String {
        let random = mix(index);
        let pick = |shift: u32, count: u64| ((random >> shift) % count) as usize;
        let mut json = String::with_capacity(288);
        json.push_str(&self.users[pick(0, USERS)][..49]);
        json.push_str(&self.pages[pick(8, USERS)][..49]);
        json.push_str(&self.ads[pick(16, ADS)][..47]);
        let (length, kind) = &self.kinds[pick(32, (TYPES.len() * AD_TYPES.len()) as u64)];
        let end = json.len() + length;
        json.push_str(&kind[..KIND_BYTES]);
        json.truncate(end);
        json.push_str(itoa::Buffer::new().format(time));
        json.push_str("\",\"ip_address\":\"1.2.3.4\"}");
        json
    }
}

/// The fields that the job needs; the parser skips the others.
#[derive(Deserialize)]
struct Fields<'a> {
    ad_id: &'a str,
    event_type: &'a str,
    event_time: &'a str,
}

/// Parses an event.
///
/// # Errors
/// It is none.
pub fn parse(json: &str) -> Result<Event, BoxError> {
    let fields: Fields<'_> = hurtig::formats::read_json(json)?;
    if fields.ad_id.len() != Id::new().capacity() {
        return Err("not an identifier".into());
    }
    Ok(Event {
        is_view: fields.event_type == "view",
        ad: Id::from(fields.ad_id).map_err(|error| error.simplify())?,
        time: fields.event_time.parse()?,
    })
}

/// Identifiers are random already.
#[derive(Default)]
pub struct First(u64);

impl Hasher for First {
    fn finish(&self) -> u64 {
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }
}

/// The campaign of each advertisement.
pub type Campaigns = HashMap<Id, u32, BuildHasherDefault<First>>;

/// The campaign of each advertisement.
pub fn campaigns() -> Campaigns {
    (0..ADS).map(|ad| (identifier(3, ad), (ad % CAMPAIGNS) as u32)).collect()
}

/// Views with their campaign.
pub fn views(events: &DataStream<String>) -> DataStream<(u32, i64)> {
    let campaigns = Arc::new(campaigns());
    events
        .try_map(|json: String| parse(&json))
        .filter(|event| event.is_view)
        .map(|event| (event.ad, event.time))
        .map(move |(ad, time)| (campaigns.get(&ad).copied().unwrap_or(u32::MAX), time))
}

/// Views of so many events, counted by campaign in tumbling windows of 10 s.
pub fn counts(env: &Environment, records: u64) -> DataStream<impl Record + Debug> {
    let maker = Maker::new();
    let source =
        GeneratorSource::new(move |index| maker.make(index, (index / 100) as i64)).with_count(records);
    let events = env.generate(source, WatermarkStrategy::none());
    let event_time = WatermarkStrategy::monotonous().with_timestamps(|view: &(u32, i64)| view.1);
    views(&events)
        .assign_timestamps_and_watermarks(event_time)
        .key_by(|view| view.0)
        .window(TumblingEventTimeWindows::of(Duration::from_secs(10)))
        .count()
}
