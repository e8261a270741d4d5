//! Record sets for tests.

use jiff::Timestamp;

use super::{Set, Snapshot};
use crate::api::{DkimRecordSetSpec, PublishedRecord, ZoneSpec};

pub const APEX: &str = "_domainkey.contoso.onmail.example";
pub const KEY: &str = "selector1-contoso-com._domainkey.contoso.onmail.example";

/// A set with names and texts, for a zone with one name server and negative answers of 60 seconds.
pub fn set(name: &str, apex: &str, records: &[(&str, &str)]) -> Set {
    let record = |(serial, (name, value)): (i64, &(&str, &str))| PublishedRecord {
        selector: "selector1".to_owned(),
        name: (*name).to_owned(),
        ttl: 300,
        value: (*value).to_owned(),
        serial,
        signed_since: None,
        keep_until: None,
    };
    let spec = DkimRecordSetSpec {
        claim_ref: None,
        provider: "default".to_owned(),
        guid: "contoso-com".to_owned(),
        zone: ZoneSpec {
            apex: apex.to_owned(),
            name_servers: vec!["ns1.provider.example".to_owned()],
            negative_ttl: 60,
        },
        drain_seconds: 60,
        former: Vec::new(),
        records: (1..).zip(records).map(record).collect(),
    };
    Set { name: name.to_owned(), created: Timestamp::UNIX_EPOCH, spec }
}

/// A snapshot of one set for the zone [`APEX`].
pub fn snapshot(records: &[(&str, &str)]) -> Snapshot {
    Snapshot::build(&[set("contoso.com", APEX, records)], 7).0
}
