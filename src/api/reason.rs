//! Condition types and reasons: closed lists, documented in `docs/conditions.md`.

use std::fmt;

macro_rules! closed_list {
    ($(#[$outer:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The word as it stands in status.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => stringify!($variant),)+ }
            }

            /// What it means, for the documentation.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $($name::$variant => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

closed_list! {
    /// The conditions of a DkimDomain.
    ConditionType {
        /// Signing is what the spec asks for (kstatus).
        Ready,
        /// Work is under way or awaited; present only while True (kstatus).
        Reconciling,
        /// Nothing will happen until somebody changes something; present only while True (kstatus).
        Stalled,
        /// The spec is valid, the provider takes it, and the domain is claimed.
        Accepted,
        /// Both slots hold a key, or wait for one to drain.
        KeysGenerated,
        /// Our TXT records are seen in DNS.
        RecordsPublished,
        /// Both of the tenant's CNAMEs are seen in DNS.
        CnamesVerified,
        /// Mail is signed as the domain itself.
        Enabled,
        /// A rotation is under way, or a signer is behind.
        Rotating,
        /// A rotation is due and cannot happen.
        RotationBlocked,
        /// The keys move to other names, or stay under those of a move that was called off; present only while True.
        Moving,
    }
}

closed_list! {
    /// Why a condition is as it is.
    Reason {
        /// Everything about the spec is in order.
        Accepted,
        /// A field of the spec is wrong; the message names it.
        InvalidSpec,
        /// There is no such DkimProvider, or none is marked default.
        ProviderNotFound,
        /// The DkimProvider's own spec is refused.
        ProviderInvalid,
        /// The DkimProvider does not allow this namespace.
        NamespaceNotAllowed,
        /// The DkimProvider does not allow what the spec asks for.
        PolicyViolation,
        /// Another DkimDomain holds this domain.
        DomainClaimed,
        /// Another domain holds this GUID, or wants it as well and comes first.
        GuidTaken,
        /// A Secret of that name exists and is not ours.
        SecretConflict,
        /// The operator may not read or write Secrets in that namespace.
        SecretForbidden,
        /// Both keys are there.
        KeysReady,
        /// Keys are being made.
        KeysPending,
        /// Private keys were lost; new ones are made, old records stay until mail under way has arrived.
        KeysLost,
        /// A key that the spec brings cannot be taken in; the message says why.
        ImportFailed,
        /// Our TXT records are in DNS as they should be.
        RecordsSeen,
        /// Our TXT records are not in DNS yet.
        RecordsPending,
        /// DNS answers something else at our names.
        RecordsContradicted,
        /// Somebody else's record is at a name of ours; it is left alone until it is removed.
        RecordConflict,
        /// The DNS server or external-dns does not take our records; the DkimProvider's status says why.
        PublishingFailed,
        /// Both CNAMEs are there.
        CnamesSeen,
        /// At least one CNAME is missing or wrong; status.records tells which and what to do.
        CnamesMissing,
        /// Resolvers may still remember an older answer; the message says until when.
        Settling,
        /// DNS gives no clear answer right now; nothing is changed for that.
        DnsUnclear,
        /// Mail is signed as the domain itself.
        SigningAsDomain,
        /// Mail is signed with the provider's default signature.
        SigningAsProvider,
        /// spec.enabled is false.
        Disabled,
        /// No key signs yet.
        NotSigning,
        /// Nothing to rotate now.
        Idle,
        /// The key before the present one drains.
        Draining,
        /// The key before the present one is published as revoked.
        Revoking,
        /// A signer that is alive has not taken up the present key yet, or signs by names of before a move.
        SignerBehind,
        /// The next key is being published.
        PreparingNext,
        /// The keys are published under the names of before and under the new ones, or those of a move that was called off.
        NamesChanging,
        /// spec.rotation.paused is true.
        Paused,
        /// The next key's CNAME is missing.
        CnameMissing,
        /// The next key is not yet in DNS.
        NextKeyPending,
        /// The DkimDomain is being deleted.
        Deleting,
    }
}

closed_list! {
    /// Reasons of Events.
    EventReason {
        /// A key was made.
        KeyGenerated,
        /// A key that the user brought was taken in.
        KeyImported,
        /// A key was seen in DNS at every server.
        KeyPublished,
        /// A key began to sign.
        KeyActivated,
        /// A key signs no more because it is no longer wanted.
        KeyRetired,
        /// A key that drains was found to be in the wrong hands: it is published as revoked.
        KeyRevoked,
        /// A signer still uses a key, or names of before a move, that it should have left.
        SignerBehind,
        /// The last such signer has moved on.
        SignersMoved,
        /// A private key was lost.
        KeysLost,
        /// A CNAME appeared.
        CnameVerified,
        /// A CNAME went away.
        CnameLost,
        /// The TXT of a waiting key vanished from DNS.
        RecordVanished,
        /// Mail is signed as the domain from now on.
        SigningAsDomain,
        /// Mail is signed as the provider from now on.
        SigningAsProvider,
        /// The keys move to other names.
        MoveBegun,
        /// The new names answer everywhere: the CNAMEs may be changed.
        MoveAnnounced,
        /// The new names have taken over.
        MoveFinished,
        /// A move was called off.
        MoveAbandoned,
        /// A rotation was asked for.
        RotationRequested,
        /// The rotation that was asked for is not wanted any more.
        RequestDropped,
        /// A rotation that is due waits.
        RotationBlocked,
        /// Somebody else's record is at a name of ours.
        RecordConflict,
        /// The spec is refused.
        Refused,
        /// The domain was claimed.
        DomainClaimed,
    }
}
