//! Record sets for tests.

use std::sync::Arc;

use jiff::Timestamp;

use super::set::Part;
use super::{Cookies, Rates, Serving, Set, Snapshot};

pub const APEX: &str = "_domainkey.contoso.onmail.example";
pub const KEY: &str = "selector1-contoso-com._domainkey.contoso.onmail.example";

/// A set with names and texts, for a zone with one name server and negative answers of 60 seconds.
pub fn set(name: &str, apex: &str, records: &[(&str, &str)]) -> Set {
    let texts = records.iter().map(|(name, value)| ((*name).to_owned(), 300, (*value).to_owned()));
    let part = Part {
        apex: apex.to_owned(),
        servers: vec!["ns1.provider.example".to_owned()],
        negative: 60,
        texts: texts.collect(),
    };
    Set { name: name.to_owned(), created: Timestamp::UNIX_EPOCH, zones: vec![part] }
}

/// A snapshot of one set for the zone [`APEX`].
pub fn snapshot(records: &[(&str, &str)]) -> Snapshot {
    Snapshot::build(&[set("contoso.com", APEX, records)], 7).0
}

/// A snapshot of one set for the zone [`APEX`], served without limits.
pub fn serving(records: &[(&str, &str)]) -> Arc<Serving> {
    let rates = Rates { same: 0, all: 0, slip: 0 };
    Arc::new(Serving::new(snapshot(records), Cookies::random().unwrap(), rates))
}
