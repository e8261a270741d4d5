//! dkim-operator: two CNAMEs once, keys rolled for ever.
pub mod api;
pub mod model;
