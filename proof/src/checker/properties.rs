//! What must hold at every instant: the invariants of the product, each by name.

use stateright::Property;

use super::world::{State, World};

/// The properties that a step can break, as bits of [`State::broken`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Broken {
    /// Invariant 1.
    Verifiable,
    /// Invariant 1.
    LinkSettled,
    /// Invariant 2.
    PublishedInUse,
    /// Invariant 1 (RFC 6376 §3.6.2.2).
    OneKeyAtAName,
    /// Invariant 3.
    SerialsOnce,
    /// Invariant 5.
    TimeRunsOn,
    /// Invariant 5.
    OneRotation,
    /// Invariant 6.
    FailuresProveNothing,
    /// Invariant 6.
    GraceKept,
    /// What a user asked for.
    PauseKept,
    /// Invariant 7.
    RestIsRest,
    /// What a user asked for.
    CondemnedEnds,
    /// What a user asked for.
    CondemnedSignsNoMore,
    /// Invariant 3.
    KeysSurvive,
    /// What a user asked for.
    BroughtOnce,
    /// Invariant 1.
    MovedLate,
}

fn holds<const BIT: u8>(_: &World, state: &State) -> bool {
    state.broken & (1u32 << BIT) == 0
}

/// All properties.
#[must_use]
pub fn all() -> Vec<Property<World>> {
    vec![
        Property::always(
            "whatever a lagging signer signs, every resolver's cache yields the matching key until it has arrived",
            holds::<{ Broken::Verifiable as u8 }>,
        ),
        Property::always(
            "no signer is told of a selector before older answers at its CNAME have run out",
            holds::<{ Broken::LinkSettled as u8 }>,
        ),
        Property::always(
            "a key that has signed stays published until the drain is over",
            holds::<{ Broken::PublishedInUse as u8 }>,
        ),
        Property::always("no name publishes two keys", holds::<{ Broken::OneKeyAtAName as u8 }>),
        Property::always("no serial names two published keys", holds::<{ Broken::SerialsOnce as u8 }>),
        Property::always("the keyring's time never runs back", holds::<{ Broken::TimeRunsOn as u8 }>),
        Property::always("one reason, one rotation", holds::<{ Broken::OneRotation as u8 }>),
        Property::always(
            "a server's failure proves nothing, nor does an old look",
            holds::<{ Broken::FailuresProveNothing as u8 }>,
        ),
        Property::always("signing falls back only after the grace", holds::<{ Broken::GraceKept as u8 }>),
        Property::always("no rotation begins in a pause", holds::<{ Broken::PauseKept as u8 }>),
        Property::always(
            "a reconcile that nothing happened since writes nothing",
            holds::<{ Broken::RestIsRest as u8 }>,
        ),
        Property::always(
            "a key in the wrong hands that signs no more is not published as valid once the controller has seen to it",
            holds::<{ Broken::CondemnedEnds as u8 }>,
        ),
        Property::always(
            "signers are never told again to use a key in the wrong hands that they were told to leave",
            holds::<{ Broken::CondemnedSignsNoMore as u8 }>,
        ),
        Property::always(
            "keys survive that the record set is deleted, or the DkimDomain with its keys left behind",
            holds::<{ Broken::KeysSurvive as u8 }>,
        ),
        Property::always("a key that a user brings is taken in once", holds::<{ Broken::BroughtOnce as u8 }>),
        Property::always(
            "the tenant is shown new names only when whatever was signed verifies there, too",
            holds::<{ Broken::MovedLate as u8 }>,
        ),
        Property::always("nothing is pending forever", World::comes_to_rest),
    ]
}
