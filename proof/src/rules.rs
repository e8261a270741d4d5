//! The rules of rotation, true or with one fault seeded.
//!
//! A fault never touches the operator's code: it alters what one of its functions is told, or what comes of what it
//! answered. A proof that passes with a fault in place proves nothing, so every one of them must be caught.

use std::time::Duration;

use dkim_operator::api::{DeletionPolicy, DkimRecordSetSpec};
use dkim_operator::model::acceptance::Order;
use dkim_operator::model::cadence::Cadence;
use dkim_operator::model::home::Home;
use dkim_operator::model::keyring::{Keyring, Link, Mode, Phase};
use dkim_operator::model::lanes::{LaneId, PerLane};
use dkim_operator::model::present::Present;
use dkim_operator::model::publication;
use dkim_operator::model::rotation::{
    self, Cause, Change, Evidence, KeySight, LinkSight, Move, Policy, VaultDecision, VaultObserved, Wanted,
};
use dkim_operator::model::selector::{PerSlot, SlotId};
use dkim_operator::model::sighting::Observation;
use dkim_operator::model::vault::{Vault, VaultChange};
use jiff::{SignedDuration, Timestamp};

pub use crate::mutants::Mutant;

/// The rules in force.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// The fault in them.
    pub mutant: Option<Mutant>,
}

impl Rules {
    fn are(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The present to a controller that has known the `truth`, when its machine's clock says something else.
    #[must_use]
    pub fn present(&self, own: Timestamp, truth: Timestamp) -> Timestamp {
        if self.are(Mutant::LeapBelieved) {
            return own;
        }
        let (mut present, count) = (Present::default(), Duration::ZERO);
        present.hear(truth, count, count);
        match present.begin(truth, count) {
            Ok(()) => present.tell(own, count).present,
            Err(_) => own,
        }
    }

    /// The operator's decision.
    #[must_use]
    pub fn decide(
        &self,
        vault: &Vault,
        order: &Order,
        observed: &VaultObserved,
        now: Timestamp,
    ) -> VaultDecision {
        let Some(mutant) = self.mutant else {
            return rotation::decide_vault(vault, &order.wanted(), observed, now);
        };
        let (mut vault, mut policy) = (vault.clone(), order.lanes.primary.policy.clone());
        let (mut observed, now) = (observed.clone(), self.moment(&vault, now));
        let sights = &mut observed.lanes.primary.sights;
        for evidence in [&mut sights.home, &mut sights.next] {
            mislead(mutant, &mut vault.rings.primary, &mut policy, evidence.as_mut(), now);
        }
        if let (Mutant::MoveUnseen, Some(next)) = (mutant, &mut sights.next) {
            next.slots.0.iter_mut().for_each(|slot| slot.key = KeySight::Matches);
        }
        if let (Mutant::AnnouncementForgotten, Some(moving)) = (mutant, &mut vault.moving) {
            moving.announced = None;
        }
        let copied = match mutant {
            Mutant::CopyTakenForNext => sights.next.as_mut(),
            Mutant::CopyTakenForHome => sights.home.as_mut(),
            _ => None,
        };
        for slot in copied.into_iter().flat_map(|evidence| &mut evidence.slots.0) {
            if let LinkSight::Verified { by_copy, .. } = &mut slot.link {
                *by_copy = false;
            }
        }
        if mutant == Mutant::CallingOffForgotten {
            let serial = |ring: &Keyring, slot| ring.slots[slot].phase.key().map_or(0, |key| key.serial);
            let present = vault.rings.map(|_, ring| PerSlot::from_fn(|slot| serial(ring, slot)));
            vault.former.iter_mut().for_each(|former| former.answered = present.clone());
        }
        if mutant == Mutant::HoldIgnored {
            observed.lanes.primary.in_use = Default::default();
        }
        observed.former.in_use &= mutant != Mutant::FormerHoldIgnored;
        let given = order.wanted();
        let policies = PerLane { primary: &policy, second: given.policies.second };
        let mut decision = rotation::decide_vault(&vault, &Wanted { policies, ..given }, &observed, now);
        if mutant == Mutant::AlongIgnored {
            let along = |c: &VaultChange| {
                matches!(c, VaultChange::Key { change: Change::Activate { cause: Cause::Along, .. }, .. })
            };
            decision.changes.retain(|change| !along(change));
        }
        distort(mutant, &mut decision.changes, policy.drain_time(), now);
        decision
    }

    /// Applies one change.
    pub fn apply(&self, vault: &mut Vault, change: &VaultChange, now: Timestamp) {
        let Some(mutant) = self.mutant else { return vault.apply(change, now) };
        let before = vault.clone();
        vault.apply(change, now);
        if mutant == Mutant::SpareLinksTrusted {
            trust_spare_links(vault, &before, change);
        }
        if mutant == Mutant::CopyTrustedTooSoon && matches!(change, VaultChange::Move(Move::Withdraw)) {
            vault.former.retain(|former| !former.has_drained(now));
        }
    }

    /// The moment at which a decision is taken and applied.
    #[must_use]
    pub fn moment(&self, vault: &Vault, now: Timestamp) -> Timestamp {
        if self.are(Mutant::ClockBelieved) { now } else { now.max(vault.high_water()) }
    }

    /// What a look proves.
    #[must_use]
    pub fn evidence(
        &self,
        observation: &Observation,
        order: &Order,
        lane: LaneId,
        home: &Home,
        ring: &Keyring,
    ) -> Option<Evidence> {
        let mut heard = observation.clone();
        if self.are(Mutant::OneServerAsked) {
            for slot in SlotId::ALL {
                heard.slots[slot].target_txt.truncate(1);
            }
        }
        let selectors = PerSlot::from_fn(|slot| ring.slots[slot].selector.clone());
        let question = order.question(lane, &home.targets(&selectors).ok()?)?;
        Some(Evidence::of(&heard, &question, ring, order.delegation))
    }

    /// What is published of a vault.
    #[must_use]
    pub fn publish(
        &self,
        order: &Order,
        set: &DkimRecordSetSpec,
        vault: &Vault,
        armed: &[(LaneId, SlotId)],
        now: Timestamp,
    ) -> DkimRecordSetSpec {
        let mut vault = vault.clone();
        if self.are(Mutant::RevokedAsValid) {
            for slot in SlotId::ALL {
                let phase = &mut vault.rings.primary.slots[slot].phase;
                if let Phase::Revoked { key, since, until } = phase.clone() {
                    *phase = Phase::Draining { key, since, until, held: false };
                }
            }
        }
        let drain = order.drain_time();
        // The record set drains by itself what the vault lets go.
        let kept = if self.are(Mutant::NamesFreedTooEarly) { SignedDuration::ZERO } else { drain };
        let all = publication::publish(set, &vault, &order.home, armed, kept, now);
        let forgets = self.are(Mutant::MoveForgetsOldNames) && vault.moving.is_none();
        DkimRecordSetSpec {
            cnames: None,
            claim_ref: None,
            provider: order.provider.clone(),
            guid: order.home.guid.to_string(),
            initial_domain: Some(order.home.initial_domain.to_string()),
            zone: order.home.zone.clone(),
            orphaned: false,
            drain_seconds: drain.as_secs(),
            last_serial: publication::last_serial(set, &vault),
            remembered_until: publication::still_remembered(set, now),
            records: all.records,
            former: if forgets { Vec::new() } else { all.former },
        }
    }

    /// The serial of the next key.
    #[must_use]
    pub fn next_serial(&self, vault: &Vault) -> u64 {
        let last = vault.last_serial();
        if self.are(Mutant::SerialReused) { last.max(1) } else { last + 1 }
    }

    /// What stays of a record set whose claim is let go.
    #[must_use]
    pub fn release(
        &self,
        set: &DkimRecordSetSpec,
        how: DeletionPolicy,
        now: Timestamp,
    ) -> Option<DkimRecordSetSpec> {
        let how = if self.are(Mutant::ReleasedAtOnce) { DeletionPolicy::Immediate } else { how };
        // The resolvers here count to the tick: a spare second would hide faults as large.
        let left = publication::let_go(set, how, 0, now);
        left.filter(|left| left.remembered_until.is_none() || !self.are(Mutant::WithdrawnForgotten))
    }

    /// Whether keys survive that the DkimDomain is made again.
    #[must_use]
    pub fn takes_up_orphans(&self) -> bool {
        !self.are(Mutant::OrphanMakesKeys)
    }

    /// Whether keys survive that the record set is gone.
    #[must_use]
    pub fn rebuilds(&self) -> bool {
        !self.are(Mutant::RebuildMakesKeys)
    }

    /// Whether a write fails where somebody wrote in between.
    #[must_use]
    pub fn compares(&self) -> bool {
        !self.are(Mutant::LastWriteWins)
    }
}

/// Alters what the decision is told.
fn mislead(
    mutant: Mutant,
    ring: &mut Keyring,
    policy: &mut Policy,
    evidence: Option<&mut Evidence>,
    now: Timestamp,
) {
    match mutant {
        Mutant::DrainTooShort => policy.drain = SignedDuration::from_secs(policy.drain.as_secs() / 2),
        Mutant::SignerLagIgnored => policy.signer_lag = SignedDuration::ZERO,
        Mutant::NegativeTtlIgnored => policy.negative_ttl = 0,
        Mutant::OlderTtlIgnored => policy.ttl = 0,
        Mutant::GraceIgnored => policy.grace = SignedDuration::ZERO,
        Mutant::PauseIgnored => policy.paused = false,
        Mutant::TwiceAsOften => policy.cadence = twice_as_often(&policy.cadence),
        Mutant::RequestRepeated => ring.log.noted_request = None,
        Mutant::CompromiseIgnored => policy.compromised_at = None,
        Mutant::ImportTwice => ring.log.imported.clear(),
        _ => {}
    }
    for slot in SlotId::ALL {
        let state = &mut ring.slots[slot];
        match (mutant, &mut state.phase) {
            (Mutant::OlderTtlIgnored, _) => state.older_ttl = 0,
            (Mutant::LinkMemoryIgnored, _) => {
                if let Link::Down { older_ttl, .. } = &mut state.link {
                    *older_ttl = 0;
                }
            }
            (Mutant::LinksNotNeeded, _) => state.link = Link::Up { trusted_from: now },
            (Mutant::ClockBelieved, _) => state.set_back(now),
            _ => {}
        }
    }
    if mutant == Mutant::ClockBelieved {
        ring.latest = ring.latest.map(|latest| latest.min(now));
        ring.mode_since = ring.mode_since.min(now);
        ring.log.last = ring.log.last.map(|last| last.min(now));
    }
    let Some(evidence) = evidence else { return };
    if mutant == Mutant::StaleLookTrusted {
        evidence.at = now;
    }
    for slot in SlotId::ALL {
        let seen = &mut evidence.slots[slot];
        match mutant {
            Mutant::SwitchBeforePublish => seen.key = KeySight::Matches,
            Mutant::LinksNotNeeded => seen.link = LinkSight::Verified { older_ttl: 0, by_copy: false },
            Mutant::LinkMemoryIgnored => {
                if let LinkSight::Verified { older_ttl, .. } = &mut seen.link {
                    *older_ttl = 0;
                }
            }
            Mutant::FailureTakenForYes => {
                if seen.key == KeySight::Unclear {
                    seen.key = KeySight::Matches;
                }
                if seen.link == LinkSight::Unclear {
                    seen.link = LinkSight::Verified { older_ttl: 0, by_copy: false };
                }
            }
            Mutant::FailureTakenForNo => {
                if seen.key == KeySight::Unclear {
                    seen.key = KeySight::Contradicted;
                }
                if seen.link == LinkSight::Unclear {
                    seen.link = LinkSight::Broken { older_ttl: 0 };
                }
            }
            _ => {}
        }
    }
}

/// Undoes that the CNAMEs of a domain that is signed as its provider are looked at anew after a move.
fn trust_spare_links(vault: &mut Vault, before: &Vault, change: &VaultChange) {
    for lane in LaneId::ALL {
        let known = match change {
            VaultChange::Move(Move::Abandon { .. }) => before.rings.get(lane).cloned(),
            VaultChange::Move(Move::Finish { .. }) => before.next_ring(lane),
            _ => None,
        };
        let Some((ring, known)) = vault.rings.get_mut(lane).zip(known) else { continue };
        if ring.mode == Mode::Default {
            for slot in SlotId::ALL {
                ring.slots[slot].link = known.slots[slot].link;
            }
        }
    }
}

fn twice_as_often(cadence: &Cadence) -> Cadence {
    match cadence {
        Cadence::Every(interval) => Cadence::Every(SignedDuration::from_secs(interval.as_secs() / 2)),
        schedule => schedule.clone(),
    }
}

/// Alters what came of the decision.
fn distort(mutant: Mutant, changes: &mut Vec<VaultChange>, whole: SignedDuration, now: Timestamp) {
    if mutant == Mutant::CompromisedDrains {
        changes.retain(|c| !matches!(c, VaultChange::Key { change: Change::Revoke { .. }, .. }));
    }
    let abandoned = |change: &VaultChange| matches!(change, VaultChange::Move(Move::Abandon { .. }));
    if mutant == Mutant::AbandonedTooEarly
        && let Some(at) = changes.iter().position(abandoned)
    {
        changes.insert(at + 1, VaultChange::Move(Move::Part { drain: whole }));
    }
    for change in changes {
        match (mutant, &mut *change) {
            (Mutant::MoveUnsettled, VaultChange::Move(Move::Seen { settled, .. })) => *settled = now,
            (Mutant::NamesFreedTooEarly, VaultChange::Move(Move::Free { drain }))
            | (Mutant::PartedAtOnce, VaultChange::Move(Move::Part { drain })) => {
                *drain = SignedDuration::ZERO
            }
            _ => {}
        }
        let VaultChange::Key { change, .. } = change else { continue };
        match (mutant, change) {
            (Mutant::SettlingSkipped, Change::Seen { settled, .. }) => *settled = now,
            (Mutant::CompromisedDrains, Change::Activate { cause, drain, .. })
                if *cause == Cause::Compromised =>
            {
                (*cause, *drain) = (Cause::KeyLost, whole);
            }
            (Mutant::FreedTooEarly, Change::Free { drain, .. })
            | (Mutant::RetiredAtOnce, Change::Retire { drain, .. }) => *drain = SignedDuration::ZERO,
            (Mutant::RetiredWhileInUse, Change::Activate { drain, .. }) => *drain = SignedDuration::ZERO,
            (Mutant::LinkMemoryIgnored, Change::LinkUp { trusted_from, .. }) => *trusted_from = now,
            _ => {}
        }
    }
}

/// Moves what lies ahead of a clock that was set back to the present.
trait SetBack {
    fn set_back(&mut self, now: Timestamp);
}

impl SetBack for dkim_operator::model::keyring::Slot {
    fn set_back(&mut self, now: Timestamp) {
        match &mut self.phase {
            Phase::Empty => {}
            Phase::Generated { key } => key.created = key.created.min(now),
            Phase::Published { key, seen, .. } => {
                key.created = key.created.min(now);
                *seen = (*seen).min(now);
            }
            Phase::Active { key, since, .. }
            | Phase::Draining { key, since, .. }
            | Phase::Revoked { key, since, .. } => {
                key.created = key.created.min(now);
                *since = (*since).min(now);
            }
        }
        if let Link::Down { since, .. } = &mut self.link {
            *since = (*since).min(now);
        }
    }
}
