//! The faults that can be seeded into the rules.

use crate::checker::world::{Story, faults};

macro_rules! mutants {
    ($($(#[doc = $what:literal])* $name:ident $(@ $($kind:ident)|+)? $(in $story:ident)?,)*) => {
        /// One seeded fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Mutant { $($(#[doc = $what])* $name,)* }
        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The kinds of faults, bits of [`faults`], it takes one of each to show it; none for most.
            #[must_use]
            pub fn shown_by(self) -> u16 {
                match self { $(Self::$name => 0 $($(| faults::$kind)+)?,)* }
            }

            /// How many faults it takes.
            #[must_use]
            pub fn faults(self) -> u32 {
                // There and back.
                match self {
                    Self::AbandonedTooEarly
                    | Self::PartedAtOnce
                    | Self::SpareLinksTrusted
                    | Self::CopyTakenForHome
                    | Self::CallingOffForgotten => 2,
                    _ => self.shown_by().count_ones(),
                }
            }

            /// In which world it shows, if not in that of a domain with nothing special.
            #[must_use]
            pub fn story(self) -> Option<Story> {
                match self { $(Self::$name => None::<Story>$(.or(Some(Story::$story)))?,)* }
            }
        }
    };
}

mutants! {
    /// A key signs as soon as it is seen, whatever resolvers remember.
    SettlingSkipped,
    /// The old key stays for half the drain.
    DrainTooShort,
    /// The drain begins when signers are told, not when the last of them has heard.
    SignerLagIgnored,
    /// A key counts as seen whatever DNS says.
    SwitchBeforePublish,
    /// Servers that fail are taken for servers that agree.
    FailureTakenForYes,
    /// Servers that fail are taken for servers that have nothing.
    FailureTakenForNo,
    /// A look of any age is good enough for a switch.
    StaleLookTrusted @ STALE,
    /// The TTL of the key before in the slot is forgotten.
    OlderTtlIgnored,
    /// Resolvers' memory of our negative answers is forgotten.
    NegativeTtlIgnored,
    /// Resolvers' memory of what the tenant had before the CNAME is forgotten.
    LinkMemoryIgnored @ TENANT,
    /// Signing as the domain does not wait for the CNAMEs.
    LinksNotNeeded,
    /// One server is asked where there are two.
    OneServerAsked,
    /// The clock is believed where it was set back.
    ClockBelieved @ CLOCK,
    /// A clock that leaps is believed, whatever the API server's says.
    LeapBelieved @ CLOCK,
    /// A key that has signed is taken out of publication when the other takes over.
    RetiredWhileInUse,
    /// A serial is used again.
    SerialReused,
    /// Signing falls back the moment a CNAME is missed.
    GraceIgnored @ TENANT,
    /// A request is carried out again and again.
    RequestRepeated @ EDIT,
    /// The schedule runs at double speed.
    TwiceAsOften,
    /// A pause is not heeded.
    PauseIgnored @ EDIT,
    /// Records go with the claim, drained or not.
    ReleasedAtOnce @ DELETE,
    /// Where nothing is published any more, the record set goes at once, whatever resolvers remember.
    WithdrawnForgotten @ DELETE,
    /// Writes are not compared with what is there.
    LastWriteWins @ SECOND,
    /// A key in the wrong hands drains like any other.
    CompromisedDrains @ COMPROMISE in Compromised,
    /// A key in the wrong hands is published as valid after it is revoked.
    RevokedAsValid @ COMPROMISE in Compromised,
    /// That a key is in the wrong hands is not heeded.
    CompromiseIgnored @ COMPROMISE in Compromised,
    /// What a signer reports is not heeded.
    HoldIgnored @ LAG in Reported,
    /// A key that a signer was late with goes the moment that it is free.
    FreedTooEarly @ LAG in Reported,
    /// Where the record set is gone, the Secret is taken for gone as well.
    RebuildMakesKeys @ LOSS in Running,
    /// Keys that were left behind on purpose are not taken up again.
    OrphanMakesKeys @ DELETE in Orphaned,
    /// The names of before a move are taken out of publication with it.
    MoveForgetsOldNames @ MOVE in Moved,
    /// Keys count as seen at the new names whatever DNS says.
    MoveUnseen @ MOVE in Moved,
    /// The new CNAMEs are shown before their targets have settled.
    MoveUnsettled @ MOVE in Moved,
    /// The names of a move that is called off drain from that moment on, wherever CNAMEs lead.
    AbandonedTooEarly @ MOVE in CalledOff,
    /// They stay no longer than the move took to be called off and a drain, whenever a CNAME has left them.
    PartedAtOnce @ MOVE in CalledOff,
    /// CNAMEs that were trusted when a move was called off, or seen to be right before it was done, are trusted on, though no
    /// mail went through them meanwhile and the tenant may have changed them.
    SpareLinksTrusted @ MOVE in Hidden,
    /// A copy of a key is taken for a CNAME that leads to the next name.
    CopyTakenForNext @ MOVE in Hidden,
    /// A copy of a key is taken for a CNAME that has left the names of a move that was called off.
    CopyTakenForHome @ MOVE in Hidden,
    /// A copy of a key counts as soon as the names of before a move are gone of which it was made.
    CopyTrustedTooSoon @ MOVE in Hidden,
    /// A key that is new signs through a CNAME that may lead to where it has yet to settle.
    AnnouncementForgotten @ MOVE in Rolled,
    /// A key that is new signs through a CNAME that may have led to the names of a move that was called off.
    CallingOffForgotten @ MOVE in Rolled,
    /// That a signer still signs by the names of before is not heeded.
    FormerHoldIgnored @ MOVE | LAG in Trailing,
    /// Names that a signer was late with go the moment that they are free.
    NamesFreedTooEarly @ MOVE | LAG in Trailing,
    /// The second signature's keys are not rolled along.
    AlongIgnored in Doubled,
    /// The second signature's keys go at once when it is not wanted any more.
    RetiredAtOnce @ EDIT in Doubled,
    /// A key that was brought is taken in again.
    ImportTwice in Brought,
}
