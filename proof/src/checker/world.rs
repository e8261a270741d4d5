//! The small world: what there is, and what can happen next.

use stateright::Model;

pub use super::actions::{Action, Crash, Sight, Sky};
use super::kernel::Kernel;
pub use super::story::{Story, faults};
pub use crate::sight::TextAnswer as Heard;

/// Names that keys may be published at: two of the domain's own, and two of a second signature or of elsewhere.
pub const NAMES: usize = 4;
/// The greatest serial of any key: serials are renumbered so that the newest key always has this one.
pub const TOP: u16 = 20;
/// How many of the last serials are watched for being used again.
pub const WATCHED: u16 = 4;
/// Ticks by which a clock is set back.
pub const STEP_BACK: i8 = 2;
/// Ticks by which a clock leaps: a drain, and more.
pub const LEAP: i8 = 6;

/// What the tenant's servers say of a CNAME.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkSeen {
    /// Ours.
    Right,
    /// Ours elsewhere, as it is shown during a move.
    Next,
    /// None, but a copy of a key.
    Copy(crate::keys::KeyId),
    /// None.
    Missing,
    /// Another.
    Wrong,
    /// They failed, or disagree.
    Unclear,
}

impl LinkSeen {
    /// Ticks for which resolvers remember that there is no CNAME.
    pub const NEGATIVE_TTL: u8 = 1;
    /// Ticks for which resolvers remember a CNAME or a copy, whatever it leads to.
    pub const TTL: u8 = 2;

    /// Whether it leads to us, or is a copy of what we publish.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Right | Self::Next | Self::Copy(_))
    }

    /// Ticks for which resolvers remember what is wrong.
    #[must_use]
    pub fn memory(self) -> u8 {
        match self {
            Self::Missing => Self::NEGATIVE_TTL,
            Self::Wrong => Self::TTL,
            Self::Right | Self::Next | Self::Copy(_) | Self::Unclear => 0,
        }
    }
}

/// A CNAME of the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link {
    /// As it is.
    pub now: LinkSeen,
    /// Ticks for which some resolver may remember a wrong answer that the controller has seen, too.
    pub memory: u8,
    /// Ticks for which some resolver may remember that it led to the other of our names.
    pub other: u8,
}

/// A look at DNS: when by the controller's clock, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Look {
    /// Ticks from the present.
    pub at: i8,
    /// The tenant's CNAMEs.
    pub links: [LinkSeen; NAMES],
    /// Our TXTs, server by server, name by name.
    pub txt: [[Heard; NAMES]; 2],
}

/// What a user may edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spec {
    /// `enabled`.
    pub enabled: bool,
    /// `rotation.paused`.
    pub paused: bool,
    /// `key.algorithm` is Ed25519.
    pub ed25519: bool,
    /// `rotation.rotateAt`, in ticks from the present.
    pub rotate_at: Option<i8>,
    /// `rotation.compromisedAt`: every key made until it was set.
    pub compromised: bool,
    /// `secondSignature`.
    pub second: bool,
    /// `guid`: another one.
    pub away: bool,
    /// `delegation: TXT`.
    pub copies: bool,
    /// `importKeys`, for the second slot.
    pub brings: bool,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            enabled: true,
            paused: false,
            ed25519: false,
            rotate_at: None,
            compromised: false,
            second: false,
            away: false,
            copies: false,
            brings: false,
        }
    }
}

/// Whether the DkimDomain is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    /// It is.
    Present,
    /// It is being deleted.
    Leaving,
    /// It is being deleted, and everything goes with it at once.
    Erasing,
    /// It is not; its record set drains.
    Gone,
    /// It is not; its keys and records were left behind for it to be made again.
    Orphaned,
}

/// A key that mail still under way may be signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Used {
    /// By whose name: the tenant's, by way of this alias, or else ours directly.
    pub alias: Option<u8>,
    /// Which of our names it was published at.
    pub name: u8,
    /// The key they must find there.
    pub key: crate::keys::KeyId,
    /// Ticks until no signer uses it and no message is under way any more; it counts down once signers are told
    /// to use another.
    pub left: u8,
    /// A signer that reports goes on with it beyond any bound.
    pub lags: bool,
}

impl Used {
    /// Whether the same key is looked for in the same way.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.alias, self.name, self.key) == (other.alias, other.name, other.key)
    }
}

/// A second controller in the midst of a reconcile.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Slow {
    /// It has read the record set and nothing else.
    Reading {
        /// The set.
        set: u32,
        /// Nobody has written it since.
        set_same: bool,
        /// Ticks since it read.
        age: u8,
    },
    /// It has decided.
    Writing {
        /// What is still to write.
        writes: super::kernel::Writes,
        /// Which write is next: 0 the mark, 1 the Secret, 2 the record set.
        step: u8,
        /// Nobody has written the record set since.
        set_same: bool,
        /// Nobody has written the Secret since.
        secret_same: bool,
        /// Ticks since it decided.
        age: u8,
    },
}

/// Everything there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The key Secret.
    pub secret: Option<u32>,
    /// The record set.
    pub set: Option<u32>,
    /// The DkimDomain.
    pub life: Life,
    /// Its spec.
    pub spec: Spec,
    /// The controller's clock against the true time, in ticks.
    pub clock: i8,
    /// What our two servers serve, slot by slot.
    pub served: [[Heard; NAMES]; 2],
    /// What some resolver may hold for each name, and for how many ticks.
    pub caches: [Vec<(Heard, u8)>; NAMES],
    /// The keys that must verify.
    pub used: Vec<Used>,
    /// The tenant's CNAMEs.
    pub links: [Link; NAMES],
    /// A look that somebody still goes by.
    pub kept: Option<Look>,
    /// The second controller.
    pub slow: Option<Slow>,
    /// The newest keys that were ever published for this claim.
    pub published: Vec<crate::keys::KeyId>,
    /// The tag of the last key that reused a serial.
    pub tag: u8,
    /// Ticks since the last switch.
    pub since_switch: u8,
    /// Rotations asked for and not carried out.
    pub asked: u8,
    /// What signers were told must be told to them after the next reconcile, too: nothing has happened to the keys.
    pub whole: bool,
    /// The record set was deleted and nobody has heard of it yet.
    pub unset: bool,
    /// The keys that are in the wrong hands, and whether signers were told to use another since.
    pub stolen: Vec<(crate::keys::KeyId, bool)>,
    /// Faults that may still happen.
    pub faults: u8,
    /// Bits of the properties that are broken.
    pub broken: u32,
}

/// The world as a model: the kernel and which faults may come together.
pub struct World {
    /// The operator's functions.
    pub kernel: Kernel,
    /// Most faults in one history.
    pub faults: u8,
    /// Their kinds, bits of [`faults`].
    pub kinds: u16,
    /// Which world.
    pub story: Story,
    /// See [`super::Scope::large`].
    pub large: bool,
    /// How far each state is from rest, for those that were followed to it, by a hash as wide as those by which the search
    /// tells states apart.
    pub(super) rest: std::sync::Mutex<std::collections::HashMap<u64, super::rest::Far>>,
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            secret: None,
            set: None,
            life: Life::Present,
            spec: self.story.spec(),
            clock: 0,
            served: [[Heard::Nothing; NAMES]; 2],
            caches: Default::default(),
            used: Vec::new(),
            links: [Link { now: LinkSeen::Missing, memory: LinkSeen::NEGATIVE_TTL, other: 0 }; NAMES],
            kept: None,
            slow: None,
            published: Vec::new(),
            tag: 0,
            since_switch: 0,
            asked: 0,
            whole: false,
            unset: false,
            stolen: Vec::new(),
            faults: self.faults,
            broken: 0,
        };
        self.remember(&mut state);
        if !matches!(self.story, Story::New | Story::Brought) {
            self.run_in(&mut state);
        }
        // Of a move alone, rotation stands still, and the domain may sign as its provider.
        let paused = |enabled| State { spec: Spec { paused: true, enabled, ..state.spec }, ..state.clone() };
        match self.story {
            Story::Moved | Story::Hidden if self.large => vec![paused(true), paused(false), state],
            Story::Moved | Story::Hidden => vec![paused(true), paused(false)],
            Story::CalledOff if self.large => vec![paused(true), paused(false), state],
            Story::CalledOff => vec![paused(true)],
            Story::Trailing => vec![paused(false)],
            _ => vec![state],
        }
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken == 0 {
            self.possible(state, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.happen(&mut next, action);
        self.order_servers(&mut next);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<stateright::Property<Self>> {
        super::properties::all()
    }
}
