//! The user's own functions, with all kinds of state.

use super::{EVENTS, EVENTS_PER_SECOND, SEEDS, check, check_events, check_two, shown};
use hurtig::dataflow::state::ItemList;
use hurtig::prelude::*;
use hurtig_tests::events::{Event, events};
use hurtig_tests::faults::seeds;
use std::time::Duration;

/// Keeps state of every kind, and timers of both.
#[derive(Clone, Default)]
struct Everything {
    count: ValueState<u64>,
    recent: ListState<u64>,
    by_remainder: MapState<u64, i64>,
    largest: Option<ReducingState<i64>>,
    mean: Option<AggregatingState<MeanValue>>,
    /// Numbers that a timer of either kind will put out.
    pending: ListState<u64>,
}

type MeanValue = Average<i64, fn(&i64) -> f64>;

impl KeyedProcessFunction<u64, Event> for Everything {
    type Out = String;

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> OpResult {
        self.count = ctx.value_state("count")?;
        self.recent = ctx.list_state("recent")?;
        self.by_remainder = ctx.map_state("by-remainder")?;
        self.largest = Some(ctx.reducing_state("largest", i64::max)?);
        self.mean =
            Some(ctx.aggregating_state("mean", Average::of((|value| *value as f64) as fn(&i64) -> f64))?);
        self.pending = ctx.list_state("pending")?;
        Ok(())
    }

    fn process(&mut self, event: Event, ctx: &mut KeyedContext<'_, u64, String>) -> OpResult {
        let count = self.count.get(ctx).copied().unwrap_or_default() + 1;
        self.count.set(ctx, count);
        self.recent.add(ctx, event.n);
        let remainder = event.n % 5;
        let sum = self.by_remainder.get(ctx, &remainder).copied().unwrap_or_default() + event.value;
        self.by_remainder.insert(ctx, remainder, sum);
        let (Some(largest), Some(mean)) = (&self.largest, &self.mean) else { return Err("not open".into()) };
        largest.add(ctx, event.value);
        mean.add(ctx, &event.value);
        if count % 10 == 0 {
            let recent = self.recent.take(ctx);
            let mut sums: Vec<_> = self.by_remainder.iter(ctx).map(|(r, sum)| (*r, *sum)).collect();
            sums.sort_unstable();
            let (largest, mean) = (largest.get(ctx).copied(), mean.get(ctx));
            ctx.emit(format!("{} {count} {recent:?} {sums:?} {largest:?} {mean:?}", event.key));
        }
        if count % 7 == 0 {
            ctx.register_event_time_timer(event.at / 1_000 * 1_000 + 3_000);
            ctx.delete_event_time_timer(event.at / 1_000 * 1_000 + 4_000);
        }
        if count % 15 == 0 {
            self.pending.add(ctx, event.n);
            let soon = ctx.processing_time() + 2;
            ctx.register_processing_time_timer(soon);
            // What no clock has reached by then is put out at the end.
            ctx.register_event_time_timer(Timestamp::MAX - 1);
        }
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, u64, String>) -> OpResult {
        let key = *ctx.key();
        if timer.domain == TimeDomain::EventTime && timer.time < Timestamp::MAX - 1 {
            ctx.emit(format!("{key} woken at {}", timer.time));
            return Ok(());
        }
        for n in self.pending.take(ctx) {
            ctx.emit(format!("{key} held {n}"));
        }
        Ok(())
    }
}

#[test]
fn every_kind_of_state_and_timer() {
    check_events(|events| events.key_by(|event| event.key).process(Everything::default()).uid("everything"));
}

/// Counts in states that live for so long.
#[derive(Clone)]
struct ShortLived {
    life: Duration,
    count: ValueState<u64>,
    numbers: ListState<u64>,
    by_remainder: MapState<u64, u64>,
}

impl ShortLived {
    fn new(life: Duration) -> Self {
        let (count, numbers, by_remainder) = Default::default();
        ShortLived { life, count, numbers, by_remainder }
    }
}

impl KeyedProcessFunction<u64, Event> for ShortLived {
    type Out = String;

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> OpResult {
        let mut ctx = ctx.with_ttl(StateTtl::new(self.life));
        self.count = ctx.value_state("count")?;
        self.numbers = ctx.list_state("numbers")?;
        self.by_remainder = ctx.map_state("by-remainder")?;
        Ok(())
    }

    fn process(&mut self, event: Event, ctx: &mut KeyedContext<'_, u64, String>) -> OpResult {
        let count = self.count.get(ctx).copied().unwrap_or_default() + 1;
        self.count.set(ctx, count);
        let remainder = event.n % 5;
        let of_remainder = self.by_remainder.get(ctx, &remainder).copied().unwrap_or_default() + 1;
        self.by_remainder.insert(ctx, remainder, of_remainder);
        self.numbers.add(ctx, event.n);
        let numbers: Vec<_> = self.numbers.iter(ctx).copied().collect();
        let last = &numbers[numbers.len().saturating_sub(3)..];
        ctx.emit(format!("{} {} {count} {of_remainder} {last:?}", event.n, event.key));
        Ok(())
    }
}

#[test]
fn state_that_expires_late_is_all_there_and_state_that_expires_at_once_never_is() {
    for life in [Duration::from_secs(3_600), Duration::ZERO] {
        check_events(|events| {
            // So that lists do not grow for ever.
            let keyed = events.key_by(|event| event.n / 1_200 * 12 + event.key);
            keyed.process(ShortLived::new(life)).uid("short-lived")
        });
    }
}

/// Counts both sides and tells the counts at the end.
#[derive(Clone, Default)]
struct BothCounts {
    counts: ValueState<(u64, u64)>,
}

impl BothCounts {
    fn add(&self, ctx: &mut KeyedContext<'_, u64, (u64, u64, u64)>, (left, right): (u64, u64)) {
        let before = self.counts.get(ctx).copied().unwrap_or_default();
        self.counts.set(ctx, (before.0 + left, before.1 + right));
        ctx.register_event_time_timer(Timestamp::MAX - 1);
    }
}

impl KeyedCoProcessFunction<u64, Event, Event> for BothCounts {
    type Out = (u64, u64, u64);

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> OpResult {
        self.counts = ctx.value_state("counts")?;
        Ok(())
    }

    fn process1(&mut self, _: Event, ctx: &mut KeyedContext<'_, u64, Self::Out>) -> OpResult {
        self.add(ctx, (1, 0));
        Ok(())
    }

    fn process2(&mut self, _: Event, ctx: &mut KeyedContext<'_, u64, Self::Out>) -> OpResult {
        self.add(ctx, (0, 1));
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, ctx: &mut KeyedContext<'_, u64, Self::Out>) -> OpResult {
        let (left, right) = self.counts.take(ctx).unwrap_or_default();
        let key = *ctx.key();
        ctx.emit((key, left, right));
        Ok(())
    }
}

#[test]
fn connected_keyed_streams() {
    check_two(|left, right| {
        left.key_by(|event| event.key)
            .connect(&right.key_by(|event| event.key))
            .process(BothCounts::default())
            .uid("both")
    });
}

/// Gives each event the name of its rule; those that come before their rule wait for the end.
#[derive(Clone, Default)]
struct Named {
    rules: Handle<BroadcastTable<u64, String>>,
    waiting: ListState<u64>,
}

impl KeyedBroadcastProcessFunction<u64, Event, u64> for Named {
    type Out = (u64, String);

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> OpResult {
        self.rules = ctx.broadcast_state("rules")?;
        self.waiting = ctx.list_state("waiting")?;
        Ok(())
    }

    fn process(&mut self, event: Event, ctx: &mut KeyedContext<'_, u64, Self::Out>) -> OpResult {
        match ctx.broadcast(self.rules).get(&(event.n % 40)).cloned() {
            Some(rule) => ctx.emit((event.n, rule)),
            None => {
                self.waiting.add(ctx, event.n);
                ctx.register_event_time_timer(Timestamp::MAX - 1);
            }
        }
        Ok(())
    }

    fn process_broadcast(&mut self, rule: u64, ctx: &mut BroadcastContext<'_, Self::Out>) -> OpResult {
        ctx.broadcast_mut(self.rules).insert(rule, format!("rule {rule}"));
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, ctx: &mut KeyedContext<'_, u64, Self::Out>) -> OpResult {
        for n in self.waiting.take(ctx) {
            let rule =
                ctx.broadcast(self.rules).get(&(n % 40)).cloned().unwrap_or_else(|| "no rule".to_string());
            ctx.emit((n, rule));
        }
        Ok(())
    }
}

#[test]
fn broadcast_state() {
    check(EVENTS / 2, None, seeds(SEEDS), |env| {
        let rules = GeneratorSource::new(|n| n).with_count(40).with_rate(800.0);
        let rules = env.generate(rules, WatermarkStrategy::none()).uid("rules").set_parallelism(1);
        let events = events(env, "events", EVENTS, EVENTS_PER_SECOND);
        shown(
            &events
                .key_by(|event| event.key)
                .connect_broadcast(&rules)
                .process(Named::default())
                .uid("named"),
        )
    });
}

/// Numbers the records of each side, and adds up their values, in operator state.
#[derive(Clone, Default)]
struct Numbered {
    sides: [Handle<ItemList<(u64, i64)>>; 2],
}

impl Numbered {
    fn add(
        &self,
        side: usize,
        event: &Event,
        ctx: &mut ProcessContext<'_, (usize, u64, u64, i64)>,
    ) -> OpResult {
        let items = &mut ctx.states().get_mut(self.sides[side]).items;
        let (count, sum) = items.pop().unwrap_or_default();
        let next = (count + 1, sum + event.value);
        items.push(next);
        ctx.emit((side, event.n, next.0, next.1));
        Ok(())
    }
}

impl CoProcessFunction<Event, Event> for Numbered {
    type Out = (usize, u64, u64, i64);

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.sides = [ctx.states.list("left")?, ctx.states.list("right")?];
        Ok(())
    }

    fn process1(&mut self, event: Event, ctx: &mut ProcessContext<'_, Self::Out>) -> OpResult {
        self.add(0, &event, ctx)
    }

    fn process2(&mut self, event: Event, ctx: &mut ProcessContext<'_, Self::Out>) -> OpResult {
        self.add(1, &event, ctx)
    }
}

#[test]
fn connected_streams_without_keys() {
    check(EVENTS / 4, None, seeds(SEEDS), |env| {
        // One subtask reads and one numbers, so the numbers are the same in every run.
        let left = events(env, "left", EVENTS / 2, EVENTS_PER_SECOND / 2.0).set_parallelism(1);
        let right = events(env, "right", EVENTS / 3, EVENTS_PER_SECOND / 3.0).set_parallelism(1);
        let numbered = left.connect(&right).process(Numbered::default()).uid("numbered").set_parallelism(1);
        let mapped = left.connect(&right).co_map(|event| event.n, |event| event.n * 2).uid("mapped");
        let spread = left.connect(&right).co_flat_map(
            |event, out| out.extend((0..event.n % 3).map(|copy| (event.n, copy))),
            |event, out| out.extend((event.n % 4 == 1).then_some((event.n, 9))),
        );
        let spread = spread.uid("spread").map(|pair| format!("{pair:?}")).uid("shown-spread");
        shown(&numbered).union(&mapped.map(|n| n.to_string()).uid("shown-mapped")).union(&spread)
    });
}

/// Lets all numbers through, and says how many rules are known with each new one.
#[derive(Clone, Default)]
struct Known {
    rules: Handle<BroadcastTable<u64, u64>>,
}

impl BroadcastProcessFunction<Event, u64> for Known {
    type Out = String;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.rules = ctx.states.broadcast("rules")?;
        Ok(())
    }

    fn process(&mut self, event: Event, ctx: &mut ProcessContext<'_, String>) -> OpResult {
        match ctx.broadcast(self.rules).get(&(event.n % 40)) {
            Some(rule) if *rule != event.n % 40 => Err("another rule's value".into()),
            _ => {
                ctx.emit(event.n.to_string());
                Ok(())
            }
        }
    }

    fn process_broadcast(&mut self, rule: u64, ctx: &mut BroadcastContext<'_, String>) -> OpResult {
        let rules = ctx.broadcast_mut(self.rules);
        rules.insert(rule, rule);
        let known = rules.iter().count();
        ctx.emit(format!("rule {rule} of {known}"));
        Ok(())
    }
}

#[test]
fn broadcast_state_without_keys() {
    check(EVENTS / 2, None, seeds(SEEDS), |env| {
        let rules = GeneratorSource::new(|n| n).with_count(40).with_rate(800.0);
        let rules = env.generate(rules, WatermarkStrategy::none()).uid("rules").set_parallelism(1);
        let events = events(env, "events", EVENTS, EVENTS_PER_SECOND);
        // Each subtask tells of every rule.
        events.connect_broadcast(&rules).process(Known::default()).uid("known").set_parallelism(2)
    });
}
