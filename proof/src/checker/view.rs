//! A Secret as the properties need to know it.

use std::sync::Arc;

use dkim_operator::model::keyring::{Keyring, Link, Mode, Phase};
use dkim_operator::model::lanes::LaneId;
use dkim_operator::model::selector::SlotId;
use jiff::Timestamp;

use super::kernel::{Kernel, ticks};
use super::store::{STOLEN, ago};
use super::world::{Spec, Used};
use crate::keys::{self, KeyId};

/// What the properties need to know of one lane of a Secret.
#[derive(Debug, Clone)]
pub struct LaneView {
    /// The slot that signs.
    pub active: Option<usize>,
    /// Signing as the domain.
    pub as_domain: bool,
    /// The keys.
    pub keys: [Option<KeyId>; 2],
    /// Whether each waits, published.
    pub published: [bool; 2],
    /// Whether each drains.
    pub drains: [bool; 2],
    /// Whether each may still sign.
    pub fresh: [bool; 2],
    /// Whether a signer is known to use the key before.
    pub held: [bool; 2],
    /// Whether the controller does not know yet what is at each alias.
    pub unseen: [bool; 2],
    /// The next rotation, in ticks from the present.
    pub next: Option<i8>,
    /// Whether some key in it is in the wrong hands.
    pub stolen: bool,
    /// The last switch.
    last: Option<Timestamp>,
}

/// What the properties need to know of a Secret.
#[derive(Debug, Clone)]
pub struct View {
    /// Lane by lane.
    pub lanes: Vec<LaneView>,
    /// Its names are the other ones.
    pub away: bool,
    /// A move is under way, and where it has come to: the new CNAMEs are shown.
    pub moving: Option<bool>,
    /// Names from before a move still drain.
    pub former: bool,
    /// And are known to be used still.
    pub former_held: bool,
    /// The second lane was rolled with the first.
    pub along: bool,
    /// A key that was brought is in it, or was.
    pub brought: bool,
}

impl View {
    /// Whether a signer that lags may need names of before a move: it signs by them, or as the domain, whose CNAME may lead there.
    #[must_use]
    pub fn needs_former(&self, used: &Used) -> bool {
        used.alias.is_some() || (used.name >= 2) != self.away
    }
}

impl Kernel {
    /// What the properties need to know of a Secret.
    pub fn view(&self, id: u32) -> Arc<View> {
        self.views.get(&id, || {
            let vault = &self.secrets.get(id).vault;
            let lanes: Vec<LaneView> =
                vault.rings.iter().map(|(lane, ring)| self.view_lane(lane, ring)).collect();
            let along = lanes.get(1).is_none_or(|second| second.last >= lanes[0].last);
            let second = vault.rings.second.is_some();
            let name = vault.home.target(&vault.rings.primary.slots[SlotId::One].selector).expect("a name");
            Arc::new(View {
                lanes,
                away: !second && self.index_of(name.as_str()) == 2,
                moving: vault.moving.as_ref().map(|moving| moving.announced.is_some()),
                former: !vault.former.is_empty(),
                former_held: vault.former.iter().any(|former| former.held),
                along,
                brought: !vault.rings.primary.log.imported.is_empty(),
            })
        })
    }

    fn view_lane(&self, lane: LaneId, ring: &Keyring) -> LaneView {
        let by_schedule = ring.log.last.filter(|_| lane == LaneId::Primary).and_then(|last| {
            let policy = &self.order(Spec::default()).lanes.primary.policy;
            policy.cadence.next(last, policy.offset)
        });
        let next = [by_schedule, ring.log.pending_request].into_iter().flatten().min();
        let phases = SlotId::ALL.map(|s| &ring.slots[s].phase);
        LaneView {
            active: ring.active().map(|s| s as usize),
            as_domain: ring.mode == Mode::Domain,
            keys: phases.map(|phase| phase.key().map(|k| keys::identify(&k.public))),
            published: phases.map(|phase| matches!(phase, Phase::Published { .. })),
            drains: phases.map(|phase| matches!(phase, Phase::Draining { .. })),
            fresh: phases.map(|phase| {
                matches!(phase, Phase::Generated { .. } | Phase::Published { .. } | Phase::Active { .. })
            }),
            held: phases.map(|phase| matches!(phase, Phase::Draining { held: true, .. })),
            unseen: SlotId::ALL.map(|s| matches!(ring.slots[s].link, Link::Down { older_ttl: 0, .. })),
            next: next.map(ticks),
            stolen: phases.iter().filter_map(|phase| phase.key()).any(|key| key.created == ago(STOLEN)),
            last: ring.log.last,
        }
    }
}
