//! The resources of group `dkim-operator.io`, version `v1alpha1`.

#![allow(clippy::duplicated_attributes, reason = "kube lists printer columns as repeated attributes")]

mod canonicalization;
mod domain;
mod duration;
mod provider;
mod publishing;
mod reason;
mod record_set;
mod signer_report;
pub mod signing_config;

pub use canonicalization::Canonicalization;
pub use domain::*;
pub use duration::HumanDuration;
pub use provider::*;
pub use publishing::*;
pub use reason::{ConditionType, EventReason, Reason};
pub use record_set::*;
pub use signer_report::*;

/// The API group.
pub const GROUP: &str = "dkim-operator.io";
/// The field manager of everything the controller applies.
pub const FIELD_MANAGER: &str = "dkim-operator";
/// Label value of everything the controller made.
pub const MANAGED_BY: &str = "dkim-operator";
/// The well-known label that carries [`MANAGED_BY`].
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label on key Secrets and record sets: the domain in A-label form (a hash of it where it is over 63 bytes).
pub const LABEL_DOMAIN: &str = "dkim-operator.io/domain-name";
/// Annotation on DkimDomains: a value that was not there before, such as the time, asks for a look at DNS at once.
pub const ANNOTATION_CHECK: &str = "dkim-operator.io/check-at";
/// Annotation on key Secrets: namespace and name of the DkimDomain they belong to, as `NAMESPACE/NAME`.
pub const ANNOTATION_OWNER: &str = "dkim-operator.io/dkim-domain";
/// Annotation on DNSEndpoints: namespace and name of the DkimRecordSet they are made from, as `NAMESPACE/NAME`.
pub const ANNOTATION_RECORD_SET: &str = "dkim-operator.io/record-set";
/// Annotation on DNSEndpoints: which of their labels are those of `dnsEndpoint.labels`, so that they go when they are taken out there.
pub const ANNOTATION_LABELS: &str = "dkim-operator.io/labels";
/// Label on DNSEndpoints: the place whose records they hold, as in owner marks.
pub const LABEL_PLACE: &str = "dkim-operator.io/place";
/// Annotation on key Secrets without keys, their DkimDomain being deleted: when they go themselves.
pub const ANNOTATION_GOES_AT: &str = "dkim-operator.io/goes-at";
/// Finalizer on DkimDomains: the record set is told of the release before the object goes.
pub const FINALIZER: &str = "dkim-operator.io/release";
