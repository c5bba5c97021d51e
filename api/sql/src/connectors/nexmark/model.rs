//! The Nexmark model: which event is what, when it happens, and whom it refers to. Facts as in Apache Beam and the Flink
//! Nexmark suite.

use super::values::Prices;
use crate::connectors::random::{Draws, Origin};
use std::ops::Range;

const FIRST_PERSON_ID: i64 = 1_000;
const FIRST_AUCTION_ID: i64 = 1_000;
/// How far ahead of what exists an event may refer.
const PERSON_ID_LEAD: u64 = 10;
const AUCTION_ID_LEAD: u64 = 10;
/// One in so many persons and auctions is a hot one.
const HOT_RATIO: i64 = 100;
/// From one event to the next within a group out of order. It is prime, so that every event of a group comes once.
pub(super) const STEP: u64 = 953;
const CHANNELS: u64 = 10_000;
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Person,
    Auction,
    Bid,
}

/// What can be chosen of the model.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) seed: u64,
    /// Event time of the first event, in milliseconds.
    pub(super) base_ms: i64,
    /// Events in a second of event time.
    pub(super) rate: u64,
    pub(super) out_of_order_group: u64,
    pub(super) persons: u64,
    pub(super) auctions: u64,
    pub(super) bids: u64,
    pub(super) person_bytes: u64,
    pub(super) auction_bytes: u64,
    pub(super) bid_bytes: u64,
    pub(super) hot_auctions: u64,
    pub(super) hot_bidders: u64,
    pub(super) hot_sellers: u64,
    pub(super) active_persons: u64,
    pub(super) auctions_in_flight: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            seed: 0,
            base_ms: 1_704_067_200_000,
            rate: 10_000,
            out_of_order_group: 1,
            persons: 1,
            auctions: 3,
            bids: 46,
            person_bytes: 200,
            auction_bytes: 500,
            bid_bytes: 100,
            hot_auctions: 2,
            hot_bidders: 4,
            hot_sellers: 4,
            active_persons: 1_000,
            auctions_in_flight: 100,
        }
    }
}

/// The model with what is drawn once for all events.
pub(super) struct Model {
    pub(super) settings: Settings,
    pub(super) prices: Prices,
    channels: Channels,
}

/// One event: all that its fields are made of.
#[derive(Clone, Copy)]
pub(super) struct Event {
    pub(super) kind: Kind,
    /// Event time in milliseconds.
    pub(super) at: i64,
    pub(super) origin: Origin,
    id: u64,
    /// Newest person and auction, counted from zero; -1 if there is none.
    person: i64,
    auction: i64,
}

impl Model {
    pub(super) fn new(settings: Settings) -> Self {
        let channels = Channels::new(settings.seed);
        Model { settings, prices: Prices::new(), channels }
    }

    /// The event that comes at a place of the stream.
    #[inline]
    pub(super) fn event(&self, number: u64) -> Event {
        let settings = &self.settings;
        let id = match settings.out_of_order_group {
            1 => number,
            group => number / group * group + number % group * STEP % group,
        };
        let total = settings.persons + settings.auctions + settings.bids;
        let (epoch, offset) = (id / total, id % total);
        let (kind, person, auction) = if offset < settings.persons {
            (Kind::Person, (epoch * settings.persons + offset) as i64, (epoch * settings.auctions) as i64 - 1)
        } else {
            let person = ((epoch + 1) * settings.persons) as i64 - 1;
            let of_auctions = offset - settings.persons;
            if of_auctions < settings.auctions {
                (Kind::Auction, person, (epoch * settings.auctions + of_auctions) as i64)
            } else {
                (Kind::Bid, person, ((epoch + 1) * settings.auctions) as i64 - 1)
            }
        };
        Event { kind, at: self.time_of(id), origin: Origin::of(settings.seed, id), id, person, auction }
    }

    #[inline]
    fn time_of(&self, id: u64) -> i64 {
        let rate = self.settings.rate;
        self.settings
            .base_ms
            .saturating_add((id.saturating_mul(1_000).saturating_add(rate / 2) / rate) as i64)
    }

    /// Somebody who is active.
    fn some_person(&self, event: &Event, draws: &mut Draws) -> i64 {
        let persons = (event.person + 1) as u64;
        let active = persons.min(self.settings.active_persons);
        (persons - active + draws.below(active + PERSON_ID_LEAD)) as i64
    }

    /// A hot one with the given odds of `ratio - 1` to one, else any.
    #[inline]
    fn person(&self, event: &Event, ratio: u64, ahead: i64, draws: &mut Draws) -> i64 {
        let person = if draws.below(ratio) > 0 {
            event.person / HOT_RATIO * HOT_RATIO + ahead
        } else {
            self.some_person(event, draws)
        };
        FIRST_PERSON_ID + person
    }

    /// Who sells in an auction.
    pub(super) fn seller(&self, event: &Event, draws: &mut Draws) -> i64 {
        self.person(event, self.settings.hot_sellers, 0, draws)
    }

    /// Who bids. The hot bidder is not the hot seller.
    #[inline]
    pub(super) fn bidder(&self, event: &Event, draws: &mut Draws) -> i64 {
        self.person(event, self.settings.hot_bidders, 1, draws)
    }

    /// The auction that a bid is for.
    #[inline]
    pub(super) fn auction(&self, event: &Event, draws: &mut Draws) -> i64 {
        let newest = event.auction.max(0);
        let auction = if draws.below(self.settings.hot_auctions) > 0 {
            newest / HOT_RATIO * HOT_RATIO
        } else {
            let oldest = (newest - self.settings.auctions_in_flight as i64).max(0);
            oldest + draws.below((newest - oldest + 1) as u64 + AUCTION_ID_LEAD) as i64
        };
        FIRST_AUCTION_ID + auction
    }

    /// How long an auction is open: so long that on average as many are as are to be.
    pub(super) fn auction_ms(&self, event: &Event, draws: &mut Draws) -> i64 {
        let settings = &self.settings;
        let total = settings.persons + settings.auctions + settings.bids;
        let events = settings.auctions_in_flight * total / settings.auctions.max(1);
        let horizon = self.time_of(event.id + events) - event.at;
        1 + draws.below((horizon * 2).max(1) as u64) as i64
    }

    /// The channel of a bid, and its URL.
    #[inline]
    pub(super) fn channel(&self, draws: &mut Draws) -> (&[u8], &[u8]) {
        let place = match draws.number() {
            // One half comes over one of the hot channels.
            lot if lot >> 63 == 0 => (lot & 3) as usize,
            lot => HOT_CHANNELS.len() + ((u128::from(lot << 1) * u128::from(CHANNELS)) >> 64) as usize,
        };
        self.channels.get(place)
    }
}

impl Event {
    /// The identifier of a new person.
    pub(super) fn person_id(&self) -> i64 {
        FIRST_PERSON_ID + self.person
    }

    /// The identifier of a new auction.
    pub(super) fn auction_id(&self) -> i64 {
        FIRST_AUCTION_ID + self.auction
    }
}

/// Names and URLs of all channels, the hot ones first.
struct Channels {
    bytes: Vec<u8>,
    places: Vec<(Range<u32>, Range<u32>)>,
}

impl Channels {
    fn new(seed: u64) -> Self {
        let mut channels = Channels { bytes: Vec::new(), places: Vec::new() };
        for (at, name) in HOT_CHANNELS.iter().enumerate() {
            channels.add(name, None, &mut Origin::of(seed, at as u64).field(usize::MAX - 1));
        }
        for channel in 0..CHANNELS as u32 {
            let mut draws = Origin::of(seed, u64::from(channel)).field(usize::MAX - 2);
            let number = (draws.below(10) > 0).then(|| channel.reverse_bits().cast_signed().unsigned_abs());
            channels.add(&format!("channel-{channel}"), number, &mut draws);
        }
        channels
    }

    fn add(&mut self, name: &str, number: Option<u32>, draws: &mut Draws) {
        let bytes = &mut self.bytes;
        let start = bytes.len() as u32;
        bytes.extend_from_slice(name.as_bytes());
        let middle = bytes.len() as u32;
        bytes.extend_from_slice(b"https://www.nexmark.com/");
        for _ in 0..3 {
            draws.text(5, b'_', bytes);
            bytes.push(b'/');
        }
        bytes.extend_from_slice(b"item.htm?query=1");
        if let Some(number) = number {
            bytes.extend_from_slice(b"&channel_id=");
            bytes.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        }
        self.places.push((start..middle, middle..bytes.len() as u32));
    }

    #[inline]
    fn get(&self, place: usize) -> (&[u8], &[u8]) {
        let (name, url) = &self.places[place];
        let part = |range: &Range<u32>| &self.bytes[range.start as usize..range.end as usize];
        (part(name), part(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_fifty_events_one_is_a_person_and_three_are_auctions() {
        let model = Model::new(Settings::default());
        let events: Vec<Event> = (0..100).map(|number| model.event(number)).collect();
        let ids = |kind: Kind, id: fn(&Event) -> i64| {
            events.iter().filter(|event| event.kind == kind).map(id).collect::<Vec<_>>()
        };
        assert_eq!(ids(Kind::Person, Event::person_id), [1_000, 1_001]);
        assert_eq!(ids(Kind::Auction, Event::auction_id), [1_000, 1_001, 1_002, 1_003, 1_004, 1_005]);
        assert_eq!(ids(Kind::Bid, |_| 0).len(), 92);
    }

    #[test]
    fn a_group_out_of_order_holds_the_same_events() {
        let sorted = Model::new(Settings { rate: 1_000, ..Settings::default() });
        let mixed = Model::new(Settings { rate: 1_000, out_of_order_group: 1_000, ..Settings::default() });
        let times = |model: &Model| (0..3_000).map(|number| model.event(number).at).collect::<Vec<_>>();
        let mut all = times(&mixed);
        assert_eq!(all[1] - all[0], 953);
        all.sort_unstable();
        assert_eq!(all, times(&sorted));
    }

    #[test]
    fn bids_are_for_what_exists_or_soon_will_and_half_of_them_for_a_hot_auction() {
        let model = Model::new(Settings::default());
        let mut hot = 0;
        for number in 10_004..20_000 {
            let event = model.event(number);
            if event.kind != Kind::Bid {
                continue;
            }
            let mut draws = event.origin.field(0);
            let auction = model.auction(&event, &mut draws);
            let newest = event.auction + FIRST_AUCTION_ID;
            assert!((newest - 100..=newest + 10).contains(&auction), "{auction} {newest}");
            hot += u32::from(auction == newest / HOT_RATIO * HOT_RATIO);
            let bidder = model.bidder(&event, &mut draws) - FIRST_PERSON_ID;
            assert!((0..=event.person + 10).contains(&bidder));
        }
        assert!((4_400..5_000).contains(&hot), "{hot}");
    }
}
