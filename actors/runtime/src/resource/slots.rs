//! What TaskManagers offer, and which of their slots a job gets.

use crate::config::{ByteSize, SlotPlacement, TaskManagerConfig};
use crate::process::hardware;
use hurtig_dataflow::graph::{Resources, SlotsWanted};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// What a TaskManager offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Number of slots.
    pub slots: usize,
    /// Thousandths of processor cores, for all slots together.
    pub cpu_millis: u64,
    /// Bytes of memory, for all slots together.
    pub memory_bytes: u64,
}

impl Offer {
    /// Slots of a process that has all it needs.
    pub fn unlimited(slots: usize) -> Self {
        Offer { slots, cpu_millis: u64::MAX, memory_bytes: u64::MAX }
    }

    /// What this machine offers, as far as nothing else is configured.
    pub fn of_machine(slots: usize, config: &TaskManagerConfig) -> Self {
        let machine = hardware();
        let cores = config.cpu_cores.unwrap_or(machine.cores as f64);
        let memory_bytes = config.memory.map_or(machine.memory_bytes, |ByteSize(bytes)| bytes);
        Offer { slots, cpu_millis: (cores * 1_000.0).round() as u64, memory_bytes }
    }

    /// What a slot takes of it: what is not asked for is an even share.
    fn take(&self, wanted: &Resources) -> Share {
        let slots = self.slots.max(1) as u64;
        Share {
            slots: 1,
            cpu_millis: wanted.cpu_millis.unwrap_or(self.cpu_millis / slots),
            memory_bytes: wanted.memory_bytes.unwrap_or(self.memory_bytes / slots),
            is_memory_wanted: wanted.memory_bytes.is_some(),
        }
    }

    fn holds(&self, used: &Share) -> bool {
        used.slots <= self.slots
            && used.cpu_millis <= self.cpu_millis
            && used.memory_bytes <= self.memory_bytes
    }
}

/// Slots of one TaskManager for one job, and what they take of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Number of slots.
    pub slots: usize,
    /// Thousandths of processor cores.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Whether all of them have asked for their memory: their worker is to make do with it.
    pub is_memory_wanted: bool,
}

impl Share {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Share) -> Share {
        Share {
            slots: self.slots.saturating_add(other.slots),
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            is_memory_wanted: (self.is_memory_wanted || self.slots == 0)
                && (other.is_memory_wanted || other.slots == 0),
        }
    }

    /// What their worker may use, if they say so.
    pub fn memory_limit(&self) -> Option<ByteSize> {
        self.is_memory_wanted.then_some(ByteSize(self.memory_bytes))
    }
}

/// A TaskManager, as far as slots are concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) offer: Offer,
    pub(super) used: Share,
}

/// The slots that a job wants, one by one.
pub(super) fn each(wanted: &[SlotsWanted]) -> Vec<Resources> {
    wanted.iter().flat_map(|group| std::iter::repeat_n(group.resources, group.count)).collect()
}

/// Slots of rooms for a job: of each room which of the job's slots, by number, and what they take.
///
/// # Errors
/// How many find no place.
pub(super) fn place(
    placement: SlotPlacement,
    rooms: &[Room],
    wanted: &[Resources],
) -> Result<Vec<(Vec<usize>, Share)>, usize> {
    let mut given = vec![(Vec::new(), Share::default()); rooms.len()];
    let free = |at: usize| rooms[at].offer.slots.saturating_sub(rooms[at].used.slots);
    let free_slots = sum((0..rooms.len()).map(free));
    if wanted.len() > free_slots {
        return Err(wanted.len() - free_slots);
    }
    // Those that are hard to place come first: by the part that they take of the largest offer.
    let most =
        |of: fn(&Offer) -> u64| rooms.iter().map(|room| of(&room.offer)).max().unwrap_or(0).max(1) as f64;
    let (cpu, memory) = (most(|offer| offer.cpu_millis), most(|offer| offer.memory_bytes));
    let part = |slot: usize| {
        let Resources { cpu_millis, memory_bytes } = wanted[slot];
        (cpu_millis.unwrap_or(0) as f64 / cpu).max(memory_bytes.unwrap_or(0) as f64 / memory)
    };
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|one, two| part(*two).total_cmp(&part(*one)));
    let mut missing = 0;
    for slot in order {
        let with =
            |at: usize, given: &[(Vec<usize>, Share)]| given[at].1.and(rooms[at].offer.take(&wanted[slot]));
        let fits = |at: &usize| rooms[*at].offer.holds(&rooms[*at].used.and(with(*at, &given)));
        let candidates = (0..rooms.len()).filter(fits);
        let next = match placement {
            SlotPlacement::Pack => candidates.max_by_key(|at| (given[*at].1.slots, free(*at), Reverse(*at))),
            SlotPlacement::Spread => {
                candidates.min_by_key(|at| (given[*at].1.slots, Reverse(free(*at)), *at))
            }
        };
        match next {
            Some(at) => {
                given[at].1 = with(at, &given);
                given[at].0.push(slot);
            }
            None => missing += 1,
        }
    }
    for (slots, _) in &mut given {
        slots.sort_unstable();
    }
    if missing == 0 { Ok(given) } else { Err(missing) }
}

/// Why slots were not found, as a sentence.
pub(super) fn missing(rooms: &[Room], wanted: &[SlotsWanted]) -> String {
    let needed = sum(wanted.iter().map(|group| group.count));
    let registered = sum(rooms.iter().map(|room| room.offer.slots));
    let free = sum(rooms.iter().map(|room| room.offer.slots.saturating_sub(room.used.slots)));
    let mut told =
        format!("the job needs {needed} slots, {registered} are registered and {free} of them are free");
    if wanted.iter().all(|group| group.resources == Resources::default()) {
        return told
            + ": lower its parallelism, or raise 'taskmanager.slots' or 'taskmanager.count', or start more TaskManagers";
    }
    for group in wanted.iter().filter(|group| group.resources != Resources::default()) {
        let Resources { cpu_millis, memory_bytes } = group.resources;
        let cpu = cpu_millis.map(cores);
        let parts: Vec<String> = cpu.into_iter().chain(memory_bytes.map(memory)).collect();
        told +=
            &format!("; {} of them, for '{}', need {} each", group.count, group.group, parts.join(" and "));
    }
    let left = rooms.iter().map(|Room { offer, used }| {
        let cpu = cores(offer.cpu_millis.saturating_sub(used.cpu_millis));
        format!("{cpu} and {}", memory(offer.memory_bytes.saturating_sub(used.memory_bytes)))
    });
    let left: Vec<String> = left.take(10).collect();
    if !left.is_empty() {
        told += &format!("; the TaskManagers have left: {}", left.join(", "));
    }
    told + ": ask for less, or raise 'taskmanager.cpu-cores' or 'taskmanager.memory', or start more TaskManagers"
}

fn sum(counts: impl Iterator<Item = usize>) -> usize {
    counts.fold(0, usize::saturating_add)
}

fn cores(millis: u64) -> String {
    format!("{} cores", millis as f64 / 1_000.0)
}

fn memory(bytes: u64) -> String {
    // Not to the byte: it is for people.
    let rounded = if bytes >= 10 << 20 { bytes >> 20 << 20 } else { bytes };
    ByteSize(rounded).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(offers: &[(usize, u64, u64)]) -> Vec<Room> {
        let room = |&(slots, cpu_millis, memory_bytes): &(usize, u64, u64)| Room {
            offer: Offer { slots, cpu_millis, memory_bytes },
            used: Share::default(),
        };
        offers.iter().map(room).collect()
    }

    fn counts(placed: Result<Vec<(Vec<usize>, Share)>, usize>) -> Vec<usize> {
        placed.expect("they fit").iter().map(|(slots, _)| slots.len()).collect()
    }

    #[test]
    fn a_jobs_slots_are_packed_or_spread() {
        let check = |placement, slots, expected: [usize; 3]| {
            let rooms: Vec<Room> = [2, 3, 2]
                .map(|slots| Room { offer: Offer::unlimited(slots), used: Share::default() })
                .to_vec();
            assert_eq!(counts(place(placement, &rooms, &vec![Resources::default(); slots])), expected);
        };
        check(SlotPlacement::Pack, 3, [0, 3, 0]);
        check(SlotPlacement::Pack, 4, [1, 3, 0]);
        check(SlotPlacement::Spread, 3, [1, 1, 1]);
        check(SlotPlacement::Spread, 4, [1, 2, 1]);
        check(SlotPlacement::Spread, 7, [2, 3, 2]);
    }

    #[test]
    fn slots_that_ask_for_much_find_a_task_manager_that_has_it() {
        let rooms = rooms(&[(4, 4_000, 8 << 30), (2, 8_000, 32 << 30)]);
        let heavy = Resources { cpu_millis: Some(3_000), memory_bytes: Some(12 << 30) };
        let plain = Resources::default();
        // The small one has the plain slots, though slots of the other are free: what they would take is taken.
        let placed = place(SlotPlacement::Pack, &rooms, &[plain, heavy, plain, heavy]).expect("they fit");
        assert_eq!([&placed[0].0, &placed[1].0], [&vec![0, 2], &vec![1, 3]]);
        assert_eq!(placed[1].1.memory_limit(), Some(ByteSize(24 << 30)));
        assert_eq!(placed[0].1.memory_limit(), None);
        assert_eq!((placed[0].1.cpu_millis, placed[0].1.memory_bytes), (2_000, 4 << 30));
        assert_eq!(place(SlotPlacement::Pack, &rooms, &[heavy; 3]).err(), Some(1));
        // One that asks for many cores is harder to place than one that asks for a little memory.
        let (little, many) = (
            Resources { memory_bytes: Some(1 << 30), cpu_millis: None },
            Resources { cpu_millis: Some(7_000), memory_bytes: None },
        );
        for wanted in [[little, many], [many, little]] {
            assert!(place(SlotPlacement::Pack, &rooms, &wanted).is_ok());
        }
    }

    #[test]
    fn what_is_missing_is_told_with_what_there_is() {
        let rooms = rooms(&[(2, 2_000, (4 << 30) + 17)]);
        let wanted = |resources| SlotsWanted { group: "heavy".into(), count: 1, resources };
        let told = missing(&rooms, &[wanted(Resources { cpu_millis: Some(2_500), memory_bytes: None })]);
        for part in ["1 of them, for 'heavy', need 2.5 cores each", "2 cores and 4 GiB", "2 are registered"] {
            assert!(told.contains(part), "{told}");
        }
    }
}
