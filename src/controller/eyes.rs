//! What is looked for in DNS for one DkimDomain: one question for each lane at its present names, and during a move
//! another one for the next names.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;

use super::context::Context;
use super::{Guarded, RESYNC};
use crate::lookup::Pace;
use crate::model::acceptance::Order;
use crate::model::keyring::{Keyring, Link, Mode, Phase};
use crate::model::lanes::LaneId;
use crate::model::rotation::{Evidence, Sights};
use crate::model::sighting::{Observation, Question};
use crate::model::vault::Vault;

/// One thing that is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Eye {
    /// For whom.
    pub object: Arc<ObjectRef<Guarded>>,
    /// For which pair of keys.
    pub lane: LaneId,
    /// At the names that the keys have, or at those that they are about to have.
    pub next: bool,
}

impl Eye {
    fn all(object: &ObjectRef<Guarded>) -> impl Iterator<Item = Self> + use<> {
        let object = Arc::new(object.clone());
        let both = |lane| [false, true].map(move |next| (lane, next));
        let pairs = LaneId::ALL.into_iter().flat_map(both);
        pairs.map(move |(lane, next)| Self { object: object.clone(), lane, next })
    }
}

/// A question, and what was found when it was put last.
pub type Answered = (Question, Option<Arc<Observation>>);

/// What was asked and what was found, place by place.
#[derive(Debug, Default)]
pub struct Seen(HashMap<(LaneId, bool), Answered>);

impl Seen {
    /// Keeps the lookout informed of what to look for and how often, and takes its last observations.
    pub fn watch(ctx: &Context, object: &ObjectRef<Guarded>, order: &Order, vault: &Vault) -> Self {
        let mut seen = HashMap::new();
        for eye in Eye::all(object) {
            let Some(question) = question(&eye, order, vault) else {
                ctx.lookout.forget(&eye);
                continue;
            };
            let Some((looker, verification)) = ctx.looker(&order.provider) else { continue };
            let rest = vault.moving.is_none()
                && vault.rings.iter().all(|(_, r)| at_rest(order.lanes.primary.policy.enabled, r));
            let pace = if rest { verification.interval } else { verification.pending_interval };
            let every = Duration::try_from(pace.0).unwrap_or(RESYNC);
            ctx.lookout.watch(eye.clone(), question.clone(), Pace { every }, looker);
            seen.insert((eye.lane, eye.next), (question, ctx.lookout.latest(&eye)));
        }
        Self(seen)
    }

    /// What was found prove of a lane.
    #[must_use]
    pub fn sights(&self, lane: LaneId, order: &Order, vault: &Vault) -> Sights {
        let evidence = |next, ring: Option<&Keyring>| {
            let (question, observation) = self.0.get(&(lane, next))?;
            Some(Evidence::of(observation.as_deref()?, question, ring?, order.delegation))
        };
        Sights {
            home: evidence(false, vault.rings.get(lane)),
            next: evidence(true, vault.next_ring(lane).as_ref()),
        }
    }

    /// The question that the tenant is shown, and the answers to it.
    #[must_use]
    pub fn shown(&self, lane: LaneId, next: bool) -> Option<Answered> {
        self.0.get(&(lane, next)).cloned()
    }

    /// Whether anything was looked at.
    #[must_use]
    pub fn any(&self) -> bool {
        self.0.values().any(|(_, observation)| observation.is_some())
    }
}

fn question(eye: &Eye, order: &Order, vault: &Vault) -> Option<Question> {
    let home = match (&vault.moving, eye.next) {
        (Some(moving), true) => &moving.to,
        (None, true) => return None,
        (_, false) => &vault.home,
    };
    let lane = order.lanes.get(eye.lane)?;
    order.question(eye.lane, &home.targets(&lane.selectors).ok()?)
}

/// Whether nothing is awaited from DNS.
fn at_rest(enabled: bool, ring: &Keyring) -> bool {
    let keys = ring.slots.iter().all(|(_, s)| {
        matches!(s.phase, Phase::Published { .. } | Phase::Active { .. } | Phase::Draining { .. })
    });
    let links = ring.slots.iter().all(|(_, s)| matches!(s.link, Link::Up { .. }));
    keys && links && (ring.mode == Mode::Domain) == enabled
}

impl Context {
    /// A number that changes with every look for a DkimDomain.
    #[must_use]
    pub fn looks(&self, object: &ObjectRef<Guarded>) -> u64 {
        let mut hasher = DefaultHasher::new();
        for eye in Eye::all(object) {
            self.lookout.latest(&eye).map(|observation| observation.at).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Looks again soon.
    pub fn look_again(&self, object: &ObjectRef<Guarded>) {
        Eye::all(object).for_each(|eye| self.lookout.wake(&eye));
    }

    /// Looks again soon, once for each request.
    pub fn look_when_asked(&self, object: &ObjectRef<Guarded>, request: &str) {
        Eye::all(object).for_each(|eye| self.lookout.asked(&eye, request));
    }

    /// Looks no more.
    pub fn look_no_more(&self, object: &ObjectRef<Guarded>) {
        Eye::all(object).for_each(|eye| self.lookout.forget(&eye));
    }
}
