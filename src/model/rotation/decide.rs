//! The decision itself.

mod slots;

use jiff::{SignedDuration, Timestamp};

use super::link::follow;
use super::{Cause, Change, Decision, Evidence, KeySight, LinkSight, Observed, Policy, Wait};
use crate::model::keyring::{Keyring, Link, Mode, Phase, later};
use crate::model::selector::SlotId;

/// Decides what to do now. Applying the changes and deciding again on the same input changes nothing more.
///
/// `now` may jump: nothing is decided at a moment before the latest one the keyring knows.
#[must_use]
pub fn decide(keyring: &Keyring, policy: &Policy, observed: &Observed<'_>, now: Timestamp) -> Decision {
    let now = now.max(keyring.high_water());
    let evidence = observed.evidence;
    let mut run = Run { ring: keyring.clone(), policy, evidence, now, changes: Vec::new(), look: false };
    run.take_note_of_request();
    run.take_stock(observed);
    run.follow_links();
    run.follow_records();
    let mut waiting = if policy.retired { run.retire() } else { run.choose_key() };
    let mode = run.ring.mode;
    run.choose_mode();
    if run.ring.mode != mode && !policy.retired {
        // What waited for a CNAME may wait no more.
        waiting = run.choose_key();
    }
    run.revoke_condemned();
    run.fill_slots(observed);
    let next = next_rotation(&run.ring, policy);
    let wake = run.wake(next);
    Decision { changes: run.changes, waiting, next, wake, look: run.look }
}

/// When the next rotation is due by schedule or by request.
fn next_rotation(ring: &Keyring, policy: &Policy) -> Option<Timestamp> {
    if policy.retired {
        return None;
    }
    let by_schedule = ring.log.last.and_then(|last| policy.cadence.next(last, policy.offset));
    let along = policy.along_with.filter(|at| ring.log.last.is_some_and(|last| last < *at));
    [by_schedule, along, ring.log.pending_request].into_iter().flatten().min()
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
        let Some(at) = self.policy.rotate_at else {
            if self.ring.log.pending_request.is_some() {
                self.make(Change::DropRequest);
            }
            return;
        };
        if self.ring.log.noted_request != Some(at) {
            self.make(Change::NoteRequest { at });
        }
    }

    fn follow_links(&mut self) {
        let Some(evidence) = self.evidence else { return };
        for slot in SlotId::ALL {
            let link = self.ring.slots[slot].link;
            match follow(self.policy, link, evidence.slots[slot].link, self.now) {
                Some(Link::Up { trusted_from }) => self.make(Change::LinkUp { slot, trusted_from }),
                Some(Link::Down { older_ttl, .. }) if matches!(link, Link::Down { .. }) => {
                    self.make(Change::LinkMemory { slot, older_ttl });
                }
                Some(Link::Down { since, older_ttl }) => {
                    self.make(Change::LinkDown { slot, since, older_ttl });
                }
                None => {}
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
                    self.make(Change::Seen { slot, settled: self.policy.run_out(self.now, wait) });
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
        // A key in the wrong hands never drains as a valid one, whatever else is wrong with it.
        if let Some(cause) = self.broken(active).filter(|_| !self.condemned(active)) {
            if self.ready(standby, self.ring.mode == Mode::Domain).is_ok() {
                self.activate(standby, cause);
            }
            return None;
        }
        let cause = self.due(active)?;
        let emergency = cause == Cause::Compromised;
        if self.policy.paused && !emergency {
            return Some(Wait::Paused);
        }
        // A standby that is about to be replaced; only an emergency may still use it.
        if !emergency
            && let Phase::Generated { key } | Phase::Published { key, .. } = &self.ring.slots[standby].phase
            && self.outdated(standby, key)
        {
            return Some(Wait::Unpublished { slot: standby });
        }
        match self.ready(standby, self.ring.mode == Mode::Domain) {
            Ok(()) => {
                self.activate(standby, cause);
                None
            }
            // As the provider with a good key rather than as the domain with one in the wrong hands: the CNAME may be gone,
            // too new, or, in a move, lead to where the key has yet to settle.
            Err(_) if emergency && self.ready(standby, false).is_ok() => {
                self.make(Change::SetMode { mode: Mode::Default });
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
        let drain = match cause {
            Cause::Compromised => self.revocation_time(slot.other()),
            _ => self.policy.drain_time(),
        };
        self.make(Change::Activate { slot, cause, drain });
    }

    fn revocation_time(&self, slot: SlotId) -> SignedDuration {
        self.policy.revocation_time(self.ring.slots[slot].lowered_ttl)
    }

    /// Whether the slot's key is in the wrong hands.
    fn condemned(&self, slot: SlotId) -> bool {
        let made = self.ring.slots[slot].phase.key().map(|key| key.created);
        made.zip(self.policy.compromised_at).is_some_and(|(made, at)| made <= at && at <= self.now)
    }

    /// A key in the wrong hands that signs no more verifies no more, either.
    fn revoke_condemned(&mut self) {
        for slot in SlotId::ALL {
            if matches!(self.ring.slots[slot].phase, Phase::Draining { .. }) && self.condemned(slot) {
                self.make(Change::Revoke { slot, stay: self.revocation_time(slot) });
            }
        }
    }

    /// Signing with these keys ends; what has not signed goes at once.
    fn retire(&mut self) -> Option<Wait> {
        for slot in SlotId::ALL {
            let leaves = matches!(
                self.ring.slots[slot].phase,
                Phase::Generated { .. } | Phase::Published { .. } | Phase::Active { .. }
            );
            if leaves {
                self.make(Change::Retire { slot, drain: self.policy.drain_time() });
            }
        }
        None
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
        if self.condemned(active) {
            return Some(Cause::Compromised);
        }
        if self.ring.log.pending_request.is_some_and(|at| at <= self.now) {
            return Some(Cause::Request);
        }
        let kind = self.ring.slots[active].phase.key().map(|k| k.kind);
        if kind.is_some_and(|kind| kind != self.policy.kind) {
            return Some(Cause::NewKind);
        }
        let last = self.ring.log.last?;
        if self.policy.along_with.is_some_and(|at| last < at) {
            return Some(Cause::Along);
        }
        let next = self.policy.cadence.next(last, self.policy.offset)?;
        (next <= self.now).then_some(Cause::Schedule)
    }

    /// Whether signers may be told to sign with the slot's key: published, settled, seen just now, and reached
    /// through the tenant's CNAME where that is the way.
    fn ready(&mut self, slot: SlotId, through_link: bool) -> Result<(), Wait> {
        match self.ring.slots[slot].phase {
            Phase::Draining { held: true, .. } => return Err(Wait::InUse { slot }),
            Phase::Draining { until, .. } => return Err(Wait::Draining { slot, until }),
            Phase::Revoked { until, .. } => return Err(Wait::Revoking { slot, until }),
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
                if seen.key.is_there() && reached { Ok(()) } else { Err(Wait::Unclear { slot }) }
            }
            None => {
                self.look = true;
                Err(Wait::Unclear { slot })
            }
        }
    }

    fn fresh(&self) -> Option<&Evidence> {
        self.evidence.filter(|e| self.policy.is_fresh(e.at, self.now))
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
                let seen = evidence.slots[active].key.is_there();
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

    /// The next moment at which time alone changes the decision.
    fn wake(&self, next: Option<Timestamp>) -> Option<Timestamp> {
        let mut moments: Vec<Timestamp> = next.into_iter().chain(self.policy.compromised_at).collect();
        for (slot, state) in self.ring.slots.iter() {
            match state.phase {
                Phase::Published { settled, .. } => moments.push(settled),
                Phase::Draining { until, .. } | Phase::Revoked { until, .. } => moments.push(until),
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
