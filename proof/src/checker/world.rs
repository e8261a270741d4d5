//! The small world: what there is, and what can happen next.

use stateright::Model;

use super::kernel::Kernel;
pub use crate::sight::TextAnswer as Heard;

/// The greatest serial of any key: serials are renumbered so that the newest key always has this one.
pub const TOP: u16 = 20;
/// How many of the last serials are watched for being used again.
pub const WATCHED: u16 = 4;
/// Ticks by which a clock is set back.
pub const STEP_BACK: i8 = 2;

/// What the tenant's servers say of a CNAME.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkSeen {
    /// Ours.
    Right,
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
    /// Ticks for which resolvers remember another CNAME.
    pub const WRONG_TTL: u8 = 2;

    /// Ticks for which resolvers remember what is wrong.
    #[must_use]
    pub fn memory(self) -> u8 {
        match self {
            Self::Missing => Self::NEGATIVE_TTL,
            Self::Wrong => Self::WRONG_TTL,
            Self::Right | Self::Unclear => 0,
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
}

/// A look at DNS: when by the controller's clock, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Look {
    /// Ticks from the present.
    pub at: i8,
    /// The tenant's CNAMEs.
    pub links: [LinkSeen; 2],
    /// Our TXTs, server by server, slot by slot.
    pub txt: [[Heard; 2]; 2],
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
}

impl Default for Spec {
    fn default() -> Self {
        Self { enabled: true, paused: false, ed25519: false, rotate_at: None }
    }
}

/// Whether the DkimDomain is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    /// It is.
    Present,
    /// It is being deleted.
    Leaving,
    /// It is not; its record set drains.
    Gone,
}

/// A key that mail still under way may be signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Used {
    /// Which slot's name verifiers ask for.
    pub slot: u8,
    /// The key they must find there.
    pub key: crate::keys::KeyId,
    /// Ticks until no signer uses it and no message is under way any more; it counts down once signers are told
    /// to use another.
    pub left: u8,
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
    pub served: [[Heard; 2]; 2],
    /// What some resolver may hold for each slot's name, and for how many ticks.
    pub caches: [Vec<(Heard, u8)>; 2],
    /// The keys that must verify.
    pub used: Vec<Used>,
    /// The tenant's CNAMEs.
    pub links: [Link; 2],
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
    /// Faults that may still happen.
    pub faults: u8,
    /// Bits of the properties that are broken.
    pub broken: u16,
}

/// Which servers fail a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sky {
    /// None.
    Clear,
    /// One of ours.
    OneSilent,
    /// All of ours.
    OursSilent,
    /// The tenant's.
    TenantUnclear,
}

/// On what a reconcile rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sight {
    /// A look made now.
    Fresh(Sky),
    /// The look that was kept.
    Kept,
    /// None: just started.
    Blind,
}

/// Where the controller dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Crash {
    /// Nowhere.
    Never,
    /// After the mark.
    AfterMark,
    /// After the Secret.
    AfterSecret,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Time passes.
    Tick,
    /// One of our servers hears of the record set.
    Serve(usize),
    /// A whole reconcile, or the part before a crash.
    Reconcile(Sight, Crash),
    /// A look is made and kept.
    KeepLook,
    /// The second controller reads the record set.
    SlowRead,
    /// It reads the Secret and decides.
    SlowDecide(Sight),
    /// It does its next write.
    SlowWrite,
    /// It dies.
    SlowDies,
    /// The Secret is deleted by hand.
    LoseSecret,
    /// A private key is taken out of the Secret by hand.
    LoseKey(usize),
    /// The tenant changes a CNAME.
    SetLink(usize, LinkSeen),
    /// The tenant pauses or resumes.
    Pause(bool),
    /// The tenant enables or disables.
    Enable(bool),
    /// The tenant asks for a rotation now.
    Request,
    /// The tenant asks for another kind of key.
    OtherKind,
    /// The controller's clock is set back.
    ClockBack,
    /// The DkimDomain is deleted.
    Delete,
    /// The controller takes the next step of letting it go.
    LetGo,
    /// What has drained is swept away.
    Sweep,
    /// The DkimDomain is made again.
    Recreate,
}

/// Kinds of faults, as bits.
pub mod faults {
    /// The controller dies between two writes.
    pub const CRASH: u8 = 1;
    /// The Secret or a key in it is deleted by hand.
    pub const LOSS: u8 = 2;
    /// The tenant takes a CNAME away or puts another there.
    pub const TENANT: u8 = 4;
    /// The spec is edited.
    pub const EDIT: u8 = 8;
    /// The clock is set back.
    pub const CLOCK: u8 = 16;
    /// The DkimDomain is deleted.
    pub const DELETE: u8 = 32;
    /// A second controller is at work, and slow.
    pub const SECOND: u8 = 64;
    /// Somebody goes by an old look.
    pub const STALE: u8 = 128;
    /// Any.
    pub const ALL: u8 = u8::MAX;
}

/// Where histories begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With a DkimDomain that was just made.
    Nothing,
    /// With one that signs as the domain, both keys published.
    Running,
    /// With either.
    Either,
}

/// The world as a model: the kernel and which faults may come together.
pub struct World {
    /// The operator's functions.
    pub kernel: Kernel,
    /// Most faults in one history.
    pub faults: u8,
    /// Their kinds, bits of [`faults`].
    pub kinds: u8,
    /// Where histories begin.
    pub start: Start,
    /// How far each state is from rest, for those that were followed to it.
    pub(super) rest: std::sync::Mutex<std::collections::HashMap<State, u8>>,
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            secret: None,
            set: None,
            life: Life::Present,
            spec: Spec::default(),
            clock: 0,
            served: [[Heard::Nothing; 2]; 2],
            caches: [Vec::new(), Vec::new()],
            used: Vec::new(),
            links: [Link { now: LinkSeen::Missing, memory: LinkSeen::NEGATIVE_TTL }; 2],
            kept: None,
            slow: None,
            published: Vec::new(),
            tag: 0,
            since_switch: 0,
            asked: 0,
            faults: self.faults,
            broken: 0,
        };
        self.remember(&mut state);
        let mut running = state.clone();
        self.run_in(&mut running);
        match self.start {
            Start::Nothing => vec![state],
            Start::Running => vec![running],
            Start::Either => vec![state, running],
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
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<stateright::Property<Self>> {
        super::properties::all()
    }
}
