//! The decisions of an election, without the store and without a clock: times are those at which requests to the
//! store were started or answered, by one clock that is never set.

use bytes::Bytes;
use hurtig_dataflow::ids::LeaderEpoch;
use std::time::Duration;

/// What the store showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The newest epoch; `None` before the first.
    pub(super) epoch: Option<LeaderEpoch>,
    /// Its heartbeat; `None` before the first.
    pub(super) beat: Option<Bytes>,
    /// Whether the heartbeat says that the lease was given up.
    pub(super) is_released: bool,
}

/// What to do after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait and look again.
    Wait,
    /// Claim an epoch.
    Claim(LeaderEpoch),
}

/// One contender's view of the election.
#[derive(Debug)]
pub(super) struct Election {
    duration: Duration,
    role: Role,
}

#[derive(Debug)]
enum Role {
    /// Watches the others: what was seen last, and since when it has not changed.
    Standby { seen: Option<(Seen, Duration)> },
    /// Has claimed an epoch, and leads in it between two times.
    Claimed { epoch: LeaderEpoch, from: Duration, until: Duration },
}

impl Election {
    pub(super) fn new(duration: Duration) -> Self {
        Election { duration, role: Role::Standby { seen: None } }
    }

    /// The epoch that this contender has claimed and not lost.
    pub(super) fn epoch(&self) -> Option<LeaderEpoch> {
        match self.role {
            Role::Claimed { epoch, .. } => Some(epoch),
            Role::Standby { .. } => None,
        }
    }

    /// A look was started, and answered later.
    pub(super) fn on_seen(&mut self, now: &Seen, started: Duration, answered: Duration) -> Next {
        let Role::Standby { seen } = &mut self.role else { return Next::Wait };
        let Some(epoch) = now.epoch else { return Next::Claim(LeaderEpoch(1)) };
        let next = Next::Claim(LeaderEpoch(epoch.0 + 1));
        match seen {
            _ if now.is_released => next,
            // What is seen now was there when the look was started, or came later: only the time up to its start
            // is known to be silence.
            Some((before, since)) if before == now => {
                if started.saturating_sub(*since) >= self.duration {
                    next
                } else {
                    Next::Wait
                }
            }
            _ => {
                *seen = Some((now.clone(), answered));
                Next::Wait
            }
        }
    }

    /// An epoch was claimed. The former leader's heartbeat, looked at once more since, is the same or not.
    pub(super) fn on_claimed(&mut self, epoch: LeaderEpoch, is_silent: bool, claimed: Duration) {
        let from = if is_silent { claimed } else { claimed + self.duration };
        self.role = Role::Claimed { epoch, from, until: claimed };
    }

    /// A heartbeat, started at this time, was written, and no newer epoch found after it.
    pub(super) fn on_renewed(&mut self, started: Duration) {
        if let Role::Claimed { until, .. } = &mut self.role {
            // Clocks may run at rates up to a tenth apart.
            *until = started + self.duration - self.duration / 10;
        }
    }

    /// A newer epoch was found, or the lease is given up. Returns the epoch that is over.
    pub(super) fn on_deposed(&mut self) -> Option<LeaderEpoch> {
        let over = self.epoch();
        if over.is_some() {
            self.role = Role::Standby { seen: None };
        }
        over
    }

    /// Until when this contender leads, if it leads now.
    pub(super) fn leads_until(&self, now: Duration) -> Option<Duration> {
        match self.role {
            Role::Claimed { from, until, .. } if from <= now && now < until => Some(until),
            _ => None,
        }
    }

    /// When a contender that does not lead should look again.
    pub(super) fn look_again_in(&self, now: Duration) -> Duration {
        let pause = self.duration / 4;
        let soonest = match &self.role {
            Role::Standby { seen: Some((_, since)) } => *since + self.duration,
            Role::Claimed { from, .. } if *from > now => *from,
            _ => now + pause,
        };
        // Never at once: a look that came to nothing is not to become a loop.
        soonest.saturating_sub(now).clamp(pause / 16, pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seen(epoch: u64, beat: &'static str) -> Seen {
        Seen { epoch: Some(LeaderEpoch(epoch)), beat: Some(beat.into()), is_released: false }
    }

    #[test]
    fn only_silence_for_a_whole_lease_is_followed_by_a_claim() {
        let mut election = Election::new(LEASE);
        assert_eq!(election.on_seen(&seen(4, "a"), s(0), s(2)), Next::Wait);
        assert_eq!(election.look_again_in(s(2)), LEASE / 4);
        assert_eq!(election.on_seen(&seen(4, "b"), s(9), s(10)), Next::Wait);
        assert_eq!(
            election.on_seen(&seen(4, "b"), s(19), s(30)),
            Next::Wait,
            "counted from when the look began"
        );
        assert_eq!(election.look_again_in(s(19)), s(1));
        assert_eq!(election.on_seen(&seen(5, "b"), s(20), s(20)), Next::Wait, "another has come first");
        assert_eq!(election.on_seen(&seen(5, "b"), s(30), s(30)), Next::Claim(LeaderEpoch(6)));
        assert_eq!(election.leads_until(s(30)), None);
    }

    #[test]
    fn a_first_or_released_lease_needs_no_waiting() {
        let mut election = Election::new(LEASE);
        assert_eq!(election.on_seen(&Seen::default(), s(0), s(0)), Next::Claim(LeaderEpoch(1)));
        let released = Seen { is_released: true, ..seen(3, "gone") };
        assert_eq!(election.on_seen(&released, s(0), s(0)), Next::Claim(LeaderEpoch(4)));
    }

    #[test]
    fn a_leader_leads_from_its_renewal_for_less_than_the_lease() {
        let mut election = Election::new(LEASE);
        election.on_claimed(LeaderEpoch(2), true, s(100));
        assert_eq!(election.leads_until(s(100)), None, "not before its first heartbeat");
        election.on_renewed(s(101));
        assert_eq!(election.leads_until(s(101)), Some(s(110)));
        assert_eq!(election.leads_until(s(110)), None);
        election.on_renewed(s(111));
        assert_eq!(election.leads_until(s(111)), Some(s(120)));
        assert_eq!(election.on_seen(&seen(9, "x"), s(112), s(112)), Next::Wait, "a leader claims nothing");
        assert_eq!(election.on_deposed(), Some(LeaderEpoch(2)));
        election.on_renewed(s(112));
        assert_eq!((election.leads_until(s(112)), election.epoch()), (None, None));
    }

    #[test]
    fn a_former_leader_that_showed_life_is_waited_for() {
        let mut election = Election::new(LEASE);
        election.on_claimed(LeaderEpoch(2), false, s(100));
        election.on_renewed(s(101));
        assert_eq!(election.leads_until(s(109)), None);
        assert_eq!(election.look_again_in(s(109)), s(1));
        election.on_renewed(s(109));
        assert_eq!(election.leads_until(s(110)), Some(s(118)));
    }
}
