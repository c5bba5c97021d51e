//! The Yahoo Streaming Benchmark (Chintapalli et al., "Benchmarking Streaming Computation Engines", 2016), with events
//! made in memory: JSON is parsed, views are kept, their advertisement is joined with its campaign, and views are
//! counted per campaign in windows of 10 s.

use crate::{Outcome, execute, mix, windows_outcome};
use hurtig::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CAMPAIGNS: u64 = 100;
const ADS: u64 = 1_000;
const USERS: u64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) is_view: bool,
    pub(crate) ad: u128,
    pub(crate) time: i64,
}

/// Identifiers as they stand in the JSON.
fn identifier(kind: u64, number: u64) -> u128 {
    u128::from(mix(kind * 1_000_003 + number)) << 64 | u128::from(mix(kind * 7_000_003 + number))
}

fn text(identifier: u128) -> String {
    let hex = format!("{identifier:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// What events are made of.
pub(crate) struct Maker {
    users: Vec<String>,
    pages: Vec<String>,
    ads: Vec<String>,
}

impl Maker {
    pub(crate) fn new() -> Self {
        let all = |kind, count| (0..count).map(|number| text(identifier(kind, number))).collect();
        Maker { users: all(1, USERS), pages: all(2, USERS), ads: all(3, ADS) }
    }

    /// An event as JSON.
    pub(crate) fn make(&self, index: u64, time: i64) -> String {
        const TYPES: [&str; 3] = ["view", "click", "purchase"];
        const AD_TYPES: [&str; 5] = ["banner", "modal", "sponsored-search", "mail", "mobile"];
        let random = mix(index);
        let mut json = String::with_capacity(288);
        let mut field = |before: &str, value: &str| {
            json.push_str(before);
            json.push_str(value);
        };
        field("{\"user_id\":\"", &self.users[(random % USERS) as usize]);
        field("\",\"page_id\":\"", &self.pages[(random >> 8) as usize % USERS as usize]);
        field("\",\"ad_id\":\"", &self.ads[(random >> 16) as usize % ADS as usize]);
        field("\",\"ad_type\":\"", AD_TYPES[(random >> 32) as usize % 5]);
        field("\",\"event_type\":\"", TYPES[(random >> 40) as usize % 3]);
        field("\",\"event_time\":\"", itoa::Buffer::new().format(time));
        field("\",\"ip_address\":\"1.2.3.4\"}", "");
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
pub(crate) fn parse(json: &str) -> Result<Event, BoxError> {
    let fields: Fields<'_> = sonic_rs::from_str(json)?;
    let ad = uuid::Uuid::try_parse(fields.ad_id)?.as_u128();
    Ok(Event { is_view: fields.event_type == "view", ad, time: fields.event_time.parse()? })
}

/// Identifiers are random already.
#[derive(Default)]
pub(crate) struct LowBits(u64);

impl Hasher for LowBits {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }
    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

pub(crate) type Campaigns = HashMap<u128, u32, BuildHasherDefault<LowBits>>;

/// The campaign of each advertisement.
pub(crate) fn campaigns() -> Campaigns {
    (0..ADS).map(|ad| (identifier(3, ad), (ad % CAMPAIGNS) as u32)).collect()
}

/// Views with their campaign.
pub(crate) fn views(events: &DataStream<String>) -> DataStream<(u32, i64)> {
    let campaigns = Arc::new(campaigns());
    events
        .try_map(|json: String| parse(&json))
        .filter(|event| event.is_view)
        .map(|event| (event.ad, event.time))
        .map(move |(ad, time)| (campaigns.get(&ad).copied().unwrap_or(u32::MAX), time))
}

pub(crate) fn run(config: &Config, records: u64) -> anyhow::Result<Outcome> {
    let maker = Maker::new();
    let env = Environment::new();
    let source =
        GeneratorSource::new(move |index| maker.make(index, (index / 100) as i64)).with_count(records);
    let events = env.generate(source, WatermarkStrategy::none());
    let event_time = WatermarkStrategy::monotonous().with_timestamps(|view: &(u32, i64)| view.1);
    views(&events)
        .assign_timestamps_and_watermarks(event_time)
        .key_by(|view| view.0)
        .window(TumblingEventTimeWindows::of(Duration::from_secs(10)))
        .count()
        .discard();
    let status = execute("ysb", &env, config)?;
    Ok(windows_outcome(records, &status))
}
