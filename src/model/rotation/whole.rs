//! The decision for a whole vault: where its keys are published, then each lane's keys.

use std::borrow::Cow;

use jiff::Timestamp;

use super::{
    Change, Custody, Decision, Evidence, FormerSeen, LinkSight, Move, Observed, Policy, Sights, Wait, decide,
    relocate,
};
use crate::model::home::Home;
use crate::model::keyring::{Mode, Phase};
use crate::model::lanes::{LaneId, PerLane};
use crate::model::selector::{PerSlot, Selector, SlotId};
use crate::model::vault::{Vault, VaultChange};

/// What the spec asks of a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Where the keys are to be published.
    pub home: &'a Home,
    /// What each lane that is wanted goes by.
    pub policies: PerLane<&'a Policy>,
    /// The selectors of the second lane, where one is wanted.
    pub second: Option<&'a PerSlot<Selector>>,
}

/// What was observed of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneObserved {
    /// What DNS proves.
    pub sights: Sights,
    /// Which private keys are in hand.
    pub custody: Custody,
    /// See [`Observed::in_use`].
    pub in_use: PerSlot<bool>,
}

/// What was observed besides the vault itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultObserved {
    /// Lane by lane.
    pub lanes: PerLane<LaneObserved>,
    /// What is known of names of before a move.
    pub former: FormerSeen,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultDecision {
    /// What to change, in order, in one write.
    pub changes: Vec<VaultChange>,
    /// Each lane's own decision: why it waits, when it is due.
    pub lanes: PerLane<Decision>,
    /// When to decide again even if nothing else happens.
    pub wake: Option<Timestamp>,
    /// Something hangs on a look at DNS that is newer than the evidence.
    pub look: bool,
}

/// Decides what to do now. Applying the changes and deciding again on the same input changes nothing more, but for the
/// sights, which belong to the names of before a move.
#[must_use]
pub fn decide_vault(
    vault: &Vault,
    wanted: &Wanted<'_>,
    observed: &VaultObserved,
    now: Timestamp,
) -> VaultDecision {
    let now = now.max(vault.high_water());
    let VaultObserved { lanes: observed, former } = observed;
    let sights = observed.map(|_, lane| lane.sights);
    let moves = relocate(vault, wanted.home, wanted.policies.primary, &sights, *former, now);
    // What was seen at the names of before says nothing of those after.
    let renames = |m: &Move| matches!(m, Move::Settle { .. } | Move::Finish { .. } | Move::Abandon { .. });
    let renamed = moves.iter().any(renames);
    // Names that a CNAME may still lead to wait for a look that shows where it leads.
    let parts = |m: &Move| matches!(m, Move::Part { .. });
    let left = vault.former.iter().filter(|former| former.held && former.reached).map(|f| f.left).max();
    let stale = |seen: &Evidence| Some(seen.at) <= left || !wanted.policies.primary.is_fresh(seen.at, now);
    // Nobody looks for a lane that is wanted no more.
    let mut looked_for = sights.iter().filter(|(lane, _)| wanted.policies.get(*lane).is_some());
    let blind = looked_for.any(|(_, sights)| sights.home.as_ref().is_none_or(stale));
    let waits = left.is_some() && !former.in_use && blind && !moves.iter().any(parts);
    let mut run = Run { vault: vault.clone(), now, changes: Vec::new() };
    moves.into_iter().for_each(|change| run.make(VaultChange::Move(change)));
    if let Some(selectors) = wanted.second
        && run.vault.rings.second.is_none()
    {
        run.make(VaultChange::OpenSecond { selectors: selectors.clone() });
    }
    let rounding = wanted.policies.primary.rounding;
    let primary = run.lane(LaneId::Primary, wanted.policies.primary, Some(&observed.primary), renamed);
    let second = run.second(wanted, observed.second.as_ref(), renamed);
    let lanes = PerLane { primary, second };
    let wakes = lanes.iter().filter_map(|(_, decision)| decision.wake).chain(run.wakes(rounding));
    VaultDecision {
        wake: wakes.filter(|at| *at > now).min(),
        look: renamed || waits || lanes.iter().any(|(_, decision)| decision.look),
        changes: run.changes,
        lanes,
    }
}

struct Run {
    vault: Vault,
    now: Timestamp,
    changes: Vec<VaultChange>,
}

impl Run {
    fn make(&mut self, change: VaultChange) {
        self.vault.apply(&change, self.now);
        self.changes.push(change);
    }

    fn lane(
        &mut self,
        lane: LaneId,
        policy: &Policy,
        observed: Option<&LaneObserved>,
        renamed: bool,
    ) -> Decision {
        let settled = self.vault.settled_next(lane, self.now);
        let announced = self.vault.moving.as_ref().is_some_and(|moving| moving.announced.is_some());
        let shown = observed.and_then(|o| o.sights.merged(settled, announced)).filter(|_| !renamed);
        let evidence = shown.map(|shown| self.counted(lane, policy, shown));
        let custody = observed.map_or(PerSlot([false; 2]), |o| o.custody);
        let in_use = observed.map_or(PerSlot::default(), |o| o.in_use);
        let observed = Observed { evidence: evidence.as_ref(), custody, in_use };
        let ring = self.vault.rings.get(lane).unwrap_or(&self.vault.rings.primary);
        let mut decision = decide(ring, &self.terms(policy), &observed, self.now);
        if let Some(Wait::Unclear { slot }) = decision.waiting
            && let (Mode::Domain, Some(shown), Some(counted)) = (ring.mode, shown, evidence)
            && policy.is_fresh(shown.at, self.now)
            && shown.slots[slot].key.is_there()
            && shown.slots[slot].link != counted.slots[slot].link
        {
            decision.waiting = Some(Wait::FormerNames { slot });
        }
        for change in &decision.changes {
            self.make(VaultChange::Key { lane, change: change.clone() });
        }
        decision
    }

    /// What counts of what is shown. Mail begins to go through a copy only where no name goes of which it may have been made, and
    /// through a CNAME only where the key answers at all names that it may lead to.
    fn counted(&self, lane: LaneId, policy: &Policy, shown: Evidence) -> Evidence {
        let doubtful = self.vault.rings.get(lane).is_some_and(|ring| self.vault.doubts_copies(ring.mode));
        let mut counted = if doubtful { shown.by_name() } else { shown };
        let answered = self.vault.answered_elsewhere(lane, self.now);
        for slot in SlotId::ALL {
            let link = &mut counted.slots[slot].link;
            // What a tenant publishes itself leads nowhere.
            if matches!(link, LinkSight::Verified { .. }) && !answered[slot] && !policy.link_per_key {
                *link = LinkSight::Unclear;
            }
        }
        counted
    }

    /// During a move, the names of before answer under the TTLs of before.
    fn terms<'a>(&self, policy: &'a Policy) -> Cow<'a, Policy> {
        let Some(moving) = &self.vault.moving else { return Cow::Borrowed(policy) };
        let [from, to] = [&self.vault.home, &moving.to];
        Cow::Owned(Policy {
            ttl: policy.ttl.max(from.ttl).max(to.ttl),
            negative_ttl: policy.negative_ttl.max(from.negative_ttl()).max(to.negative_ttl()),
            ..policy.clone()
        })
    }

    /// The second lane is rolled along with the primary one, and drains when it is no longer wanted.
    fn second(
        &mut self,
        wanted: &Wanted<'_>,
        observed: Option<&LaneObserved>,
        renamed: bool,
    ) -> Option<Decision> {
        let ring = self.vault.rings.second.as_ref()?;
        let policy = match wanted.policies.second {
            Some(policy) => {
                Policy { along_with: self.vault.rings.primary.log.last, retired: false, ..policy.clone() }
            }
            None => Policy { retired: true, ..wanted.policies.primary.clone() },
        };
        let gone = ring.slots.iter().all(|(_, slot)| slot.phase == Phase::Empty);
        if policy.retired && gone {
            self.make(VaultChange::CloseSecond);
            return None;
        }
        Some(self.lane(LaneId::Second, &policy, observed, renamed))
    }

    /// Moments at which time alone lets a move go on.
    fn wakes(&self, rounding: u32) -> Vec<Timestamp> {
        let left = self.vault.former.iter().flat_map(|f| [Some(f.until), f.forgotten_at(rounding)]);
        let mut moments: Vec<Timestamp> = left.flatten().collect();
        for (_, names) in self.vault.moving.iter().flat_map(|moving| moving.lanes.iter()) {
            for (_, name) in names.iter() {
                moments.push(name.settled);
                if let crate::model::keyring::Link::Up { trusted_from } = name.link {
                    moments.push(trusted_from);
                }
            }
        }
        moments
    }
}

impl VaultDecision {
    /// The slots whose keys are about to be told to signers.
    pub fn armed(&self) -> impl Iterator<Item = (LaneId, crate::model::selector::SlotId)> {
        self.changes.iter().filter_map(|change| match change {
            VaultChange::Key { lane, change: Change::Activate { slot, .. } } => Some((*lane, *slot)),
            _ => None,
        })
    }
}
