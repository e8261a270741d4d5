//! The decision itself.

use jiff::Timestamp;

use super::{Cause, Change, Custody, Decision, Evidence, KeySight, LinkSight, Policy, Wait};
use crate::model::keyring::{Keyring, Link, Mode, Phase, later, later_secs};
use crate::model::selector::SlotId;

/// Decides what to do now. Applying the changes and deciding again on the same input changes nothing more.
///
/// `evidence` is the last look at DNS, if there was one for these names; `custody` tells which private keys are
/// in hand. `now` may jump: nothing is decided at a moment before the latest one the keyring knows.
#[must_use]
pub fn decide(
    keyring: &Keyring,
    policy: &Policy,
    evidence: Option<&Evidence>,
    custody: &Custody,
    now: Timestamp,
) -> Decision {
    let now = now.max(keyring.high_water());
    let mut run = Run { ring: keyring.clone(), policy, evidence, now, changes: Vec::new(), look: false };
    run.take_note_of_request();
    run.take_stock(custody);
    run.follow_links();
    run.follow_records();
    let waiting = run.choose_key();
    run.choose_mode();
    run.fill_slots();
    let next = next_rotation(&run.ring, policy);
    let wake = run.wake(next);
    Decision { changes: run.changes, waiting, next, wake, look: run.look }
}

/// When the next rotation is due by schedule or by request.
fn next_rotation(ring: &Keyring, policy: &Policy) -> Option<Timestamp> {
    let by_schedule = ring.log.last.map(|last| later(last, policy.interval));
    [by_schedule, ring.log.pending_request].into_iter().flatten().min()
}

struct Run<'a> {
    ring: Keyring,
    policy: &'a Policy,
    evidence: Option<&'a Evidence>,
    now: Timestamp,
    changes: Vec<Change>,
    look: bool,
}

impl Run<'_> {
    fn make(&mut self, change: Change) {
        self.ring.apply(&change, self.now);
        self.changes.push(change);
    }

    fn take_note_of_request(&mut self) {
        let Some(at) = self.policy.rotate_at else { return };
        if self.ring.log.noted_request != Some(at) {
            self.make(Change::NoteRequest { at });
        }
    }

    /// A key whose private half is gone cannot sign: what it signed drains, what has not signed is replaced.
    fn take_stock(&mut self, custody: &Custody) {
        for slot in SlotId::ALL {
            let needs_key = matches!(
                self.ring.slots[slot].phase,
                Phase::Generated { .. } | Phase::Published { .. } | Phase::Active { .. }
            );
            if needs_key && !custody[slot] {
                self.make(Change::Lost { slot, drain: self.policy.drain_time() });
            }
        }
    }

    fn follow_links(&mut self) {
        let Some(evidence) = self.evidence else { return };
        for slot in SlotId::ALL {
            match (evidence.slots[slot].link, self.ring.slots[slot].link) {
                (LinkSight::Verified { older_ttl }, Link::Down { older_ttl: remembered, .. }) => {
                    let trusted_from = later_secs(self.now, older_ttl.max(remembered));
                    self.make(Change::LinkUp { slot, trusted_from });
                }
                (LinkSight::Broken { older_ttl }, Link::Up { .. }) => {
                    self.make(Change::LinkDown { slot, since: self.now, older_ttl });
                }
                (LinkSight::Broken { older_ttl }, Link::Down { older_ttl: remembered, .. })
                    if older_ttl > remembered =>
                {
                    self.make(Change::LinkMemory { slot, older_ttl });
                }
                _ => {}
            }
        }
    }

    fn follow_records(&mut self) {
        let Some(evidence) = self.evidence else { return };
        for slot in SlotId::ALL {
            match (&self.ring.slots[slot].phase, evidence.slots[slot].key) {
                (Phase::Generated { .. }, KeySight::Matches) => {
                    let older = self.ring.slots[slot].older_ttl;
                    let wait = older.max(self.policy.negative_ttl);
                    self.make(Change::Seen { slot, settled: later_secs(self.now, wait) });
                }
                (Phase::Published { .. }, KeySight::Contradicted) => self.make(Change::Unseen { slot }),
                _ => {}
            }
        }
    }

    /// Which key signs. Returns why a rotation that is due waits.
    fn choose_key(&mut self) -> Option<Wait> {
        let Some(active) = self.ring.active() else {
            self.choose_first();
            return None;
        };
        let standby = active.other();
        if let Some(cause) = self.broken(active) {
            if self.ready(standby, self.ring.mode == Mode::Domain).is_ok() {
                self.activate(standby, cause);
            }
            return None;
        }
        let cause = self.due(active)?;
        if self.policy.paused {
            return Some(Wait::Paused);
        }
        // A standby of the kind no longer wanted is about to be replaced; only an emergency may still use it.
        if self.ring.slots[standby].phase.key().is_some_and(|key| key.kind != self.policy.kind) {
            return match self.ring.slots[standby].phase {
                Phase::Draining { until, .. } => Some(Wait::Draining { slot: standby, until }),
                _ => Some(Wait::Unpublished { slot: standby }),
            };
        }
        match self.ready(standby, self.ring.mode == Mode::Domain) {
            Ok(()) => {
                self.activate(standby, cause);
                None
            }
            Err(wait) => Some(wait),
        }
    }

    /// No key signs: mail leaves unsigned, so the first one that verifies is taken, by the provider's name if
    /// need be.
    fn choose_first(&mut self) {
        let cause = if self.ring.log.last.is_some() { Cause::KeyLost } else { Cause::First };
        let with_link = self.ring.mode == Mode::Domain;
        let usable = |run: &mut Self, link| SlotId::ALL.into_iter().find(|s| run.ready(*s, link).is_ok());
        if let Some(slot) = usable(self, true) {
            self.activate(slot, cause);
        } else if let Some(slot) = usable(self, false) {
            if with_link {
                self.make(Change::SetMode { mode: Mode::Default });
            }
            self.activate(slot, cause);
        }
    }

    fn activate(&mut self, slot: SlotId, cause: Cause) {
        self.make(Change::Activate { slot, cause, drain: self.policy.drain_time() });
    }

    /// What makes the active key unfit to go on.
    fn broken(&self, active: SlotId) -> Option<Cause> {
        if self.evidence.is_some_and(|e| e.slots[active].key == KeySight::Contradicted) {
            return Some(Cause::RecordLost);
        }
        let link_gone = matches!(self.ring.slots[active].link, Link::Down { .. });
        (self.ring.mode == Mode::Domain && link_gone).then_some(Cause::LinkLost)
    }

    fn due(&self, active: SlotId) -> Option<Cause> {
        if self.ring.log.pending_request.is_some_and(|at| at <= self.now) {
            return Some(Cause::Request);
        }
        let kind = self.ring.slots[active].phase.key().map(|k| k.kind);
        if kind.is_some_and(|kind| kind != self.policy.kind) {
            return Some(Cause::NewKind);
        }
        let last = self.ring.log.last?;
        (later(last, self.policy.interval) <= self.now).then_some(Cause::Schedule)
    }

    /// Whether signers may be told to sign with the slot's key: published, settled, seen just now, and reached
    /// through the tenant's CNAME where that is the way.
    fn ready(&mut self, slot: SlotId, through_link: bool) -> Result<(), Wait> {
        match self.ring.slots[slot].phase {
            Phase::Draining { until, .. } => return Err(Wait::Draining { slot, until }),
            Phase::Published { settled, .. } if settled > self.now => {
                return Err(Wait::Settling { slot, until: settled });
            }
            Phase::Published { .. } => {}
            Phase::Empty | Phase::Generated { .. } | Phase::Active { .. } => {
                return Err(Wait::Unpublished { slot });
            }
        }
        if through_link {
            match self.ring.slots[slot].link {
                Link::Down { .. } => return Err(Wait::LinkDown { slot }),
                Link::Up { trusted_from } if trusted_from > self.now => {
                    return Err(Wait::Settling { slot, until: trusted_from });
                }
                Link::Up { .. } => {}
            }
        }
        match self.fresh() {
            Some(evidence) => {
                let seen = evidence.slots[slot];
                let reached = !through_link || matches!(seen.link, LinkSight::Verified { .. });
                if seen.key == KeySight::Matches && reached { Ok(()) } else { Err(Wait::Unclear { slot }) }
            }
            None => {
                self.look = true;
                Err(Wait::Unclear { slot })
            }
        }
    }

    fn fresh(&self) -> Option<&Evidence> {
        self.evidence.filter(|e| later(e.at, self.policy.freshness) >= self.now)
    }

    fn choose_mode(&mut self) {
        let Some(active) = self.ring.active() else { return };
        match self.ring.mode {
            Mode::Default if self.policy.enabled && self.links_trusted() => {
                let Some(evidence) = self.fresh() else {
                    self.look = true;
                    return;
                };
                let linked = |s: SlotId| matches!(evidence.slots[s].link, LinkSight::Verified { .. });
                let seen = evidence.slots[active].key == KeySight::Matches;
                if SlotId::ALL.into_iter().all(linked) && seen {
                    self.make(Change::SetMode { mode: Mode::Domain });
                }
            }
            Mode::Domain if !self.policy.enabled => self.make(Change::SetMode { mode: Mode::Default }),
            Mode::Domain => {
                if let Link::Down { since, .. } = self.ring.slots[active].link
                    && later(since, self.policy.grace) <= self.now
                {
                    self.make(Change::SetMode { mode: Mode::Default });
                }
            }
            Mode::Default => {}
        }
    }

    fn links_trusted(&self) -> bool {
        SlotId::ALL
            .into_iter()
            .all(|s| matches!(self.ring.slots[s].link, Link::Up { trusted_from } if trusted_from <= self.now))
    }

    /// Empty slots, drained ones, and keys of the wrong kind that have never signed get a new key.
    fn fill_slots(&mut self) {
        for slot in SlotId::ALL {
            let Policy { kind, ttl, .. } = *self.policy;
            let older_ttl = match &self.ring.slots[slot].phase {
                Phase::Empty => Some(self.ring.slots[slot].older_ttl),
                Phase::Draining { until, .. } if *until <= self.now => Some(ttl),
                Phase::Generated { key } | Phase::Published { key, .. } if key.kind != kind => {
                    Some(ttl.max(self.ring.slots[slot].older_ttl))
                }
                _ => None,
            };
            if let Some(older_ttl) = older_ttl {
                self.make(Change::Generate { slot, kind, older_ttl });
            }
        }
    }

    /// The next moment at which time alone changes the decision.
    fn wake(&self, next: Option<Timestamp>) -> Option<Timestamp> {
        let mut moments: Vec<Timestamp> = next.into_iter().collect();
        for (slot, state) in self.ring.slots.iter() {
            match state.phase {
                Phase::Published { settled, .. } => moments.push(settled),
                Phase::Draining { until, .. } => moments.push(until),
                Phase::Empty | Phase::Generated { .. } | Phase::Active { .. } => {}
            }
            match state.link {
                Link::Up { trusted_from } => moments.push(trusted_from),
                Link::Down { since, .. } if self.ring.active() == Some(slot) => {
                    moments.push(later(since, self.policy.grace));
                }
                Link::Down { .. } => {}
            }
        }
        moments.into_iter().filter(|at| *at > self.now).min()
    }
}
