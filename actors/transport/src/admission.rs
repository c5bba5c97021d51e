//! Whose turn it is to go when too many sockets have proven nothing: of the address that holds the most, the oldest.
//! So a flood from one machine pushes out its own, not the others'.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// At most `capacity` members, each of an address. Members leave by [`Admission::leave`] or are pushed out.
#[derive(Debug)]
pub(crate) struct Admission {
    capacity: usize,
    /// Oldest first.
    members: VecDeque<(u64, IpAddr)>,
    by_address: HashMap<IpAddr, usize>,
}

impl Admission {
    pub(crate) fn new(capacity: usize) -> Self {
        Admission { capacity: capacity.max(1), members: VecDeque::new(), by_address: HashMap::new() }
    }

    /// Lets a member in and says who must go for it.
    #[must_use]
    pub(crate) fn enter(&mut self, id: u64, address: IpAddr) -> Option<u64> {
        let out = if self.members.len() < self.capacity { None } else { self.choose() };
        if let Some(out) = out {
            self.leave(out);
        }
        self.members.push_back((id, address));
        *self.by_address.entry(address).or_default() += 1;
        out
    }

    /// Does nothing if it has left already.
    pub(crate) fn leave(&mut self, id: u64) {
        // those who leave by themselves are mostly old or new, those pushed out mostly the oldest
        let Some(index) = self.members.iter().position(|(member, _)| *member == id) else { return };
        let Some((_, address)) = self.members.remove(index) else { return };
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }

    fn choose(&self) -> Option<u64> {
        let most = self.by_address.values().max()?;
        let greedy = |address: &IpAddr| self.by_address.get(address) == Some(most);
        self.members.iter().find(|(_, address)| greedy(address)).map(|(id, _)| *id)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.members.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn the_greediest_address_loses_its_oldest() {
        let mut admission = Admission::new(3);
        assert_eq!(admission.enter(1, address(1)), None);
        assert_eq!(admission.enter(2, address(2)), None);
        assert_eq!(admission.enter(3, address(2)), None);
        assert_eq!(admission.enter(4, address(2)), Some(2));
        assert_eq!(admission.enter(5, address(3)), Some(3));
        assert_eq!(admission.enter(6, address(4)), Some(1));
    }

    #[test]
    fn a_flood_from_one_address_never_pushes_out_another() {
        let mut admission = Admission::new(8);
        assert_eq!(admission.enter(0, address(1)), None);
        for id in 1..1000 {
            assert_ne!(admission.enter(id, address(2)), Some(0));
        }
    }

    proptest! {
        #[test]
        fn there_are_never_more_than_the_capacity(steps in prop::collection::vec((any::<bool>(), 0u64..20, 0u8..4), 0..200)) {
            let mut admission = Admission::new(5);
            for (index, (enters, other, from)) in steps.into_iter().enumerate() {
                if enters {
                    let _ = admission.enter(index as u64, address(from));
                } else {
                    admission.leave(index as u64 - other.min(index as u64));
                }
                prop_assert!(admission.len() <= 5);
                prop_assert_eq!(admission.by_address.values().sum::<usize>(), admission.len());
            }
        }
    }
}
