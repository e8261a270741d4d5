//! Real servers to look at, and the words for what is seen.

use std::net::{IpAddr, SocketAddr};

use dkim_operator::lookup::{Limits, Looker, LookupConfig, Reach};
use dkim_operator::model::diagnosis::{RecordState, diagnose};
use dkim_operator::model::name::{DnsName, DomainName};
use dkim_operator::model::selector::{PerSlot, SlotId};
use dkim_operator::model::sighting::{Failure, Observation, Question, SlotQuestion};
use dkim_testbed::{Address, DnsTree, FileServer, Knot, ZoneText, txt};
use jiff::Timestamp;

pub const INITIAL: &str = "contoso.onmail.example";

pub fn guid(domain: &str) -> String {
    domain.replace('.', "-")
}

pub fn target(slot: u8, domain: &str) -> String {
    format!("selector{slot}-{}._domainkey.{INITIAL}", guid(domain))
}

pub fn alias(slot: u8, domain: &str) -> String {
    format!("selector{slot}._domainkey.{domain}")
}

pub fn question(domain: &str) -> Question {
    let slot = |n| SlotQuestion {
        alias: DnsName::new(alias(n, domain)).unwrap(),
        target: DnsName::new(target(n, domain)).unwrap(),
    };
    Question { domain: DomainName::parse(domain).unwrap(), slots: PerSlot([slot(1), slot(2)]) }
}

/// As long as that of an RSA key of 4096 bits: too long for 512 bytes.
pub fn key(domain: &str) -> String {
    format!("v=DKIM1; k=rsa; p={}{}", "A".repeat(700), data_encoding::BASE64.encode(domain.as_bytes()))
}

/// The provider's zone, with both keys of every domain, on a BIND that cuts answers at 512 bytes.
pub async fn provider(domains: &[&str]) -> dkim_testbed::Result<FileServer> {
    let address = Address::allocate()?;
    let records: String = domains
        .iter()
        .flat_map(|domain| {
            [1, 2].map(|n| format!("{}. 60 IN TXT {}\n", target(n, domain), txt(&key(domain))))
        })
        .collect();
    let zone = ZoneText::new("onmail.example", 60, address.ip(), &records)?;
    FileServer::bind(address, &[zone], 512).await
}

pub fn loopback() -> Reach {
    Reach::allowing(["127.0.0.0/8".parse().unwrap()])
}

pub fn config(resolvers: &[SocketAddr]) -> LookupConfig {
    let limits = Limits { total: 1000, server: 1000, zone: 1000 };
    LookupConfig {
        resolvers: resolvers.iter().map(|r| (*r).into()).collect(),
        reach: loopback(),
        limits,
        ..LookupConfig::default()
    }
}

pub async fn look(looker: &Looker, domain: &str) -> Observation {
    looker.look(&question(domain), Timestamp::now(), true).await
}

pub fn told(domain: &str, seen: &Observation, slot: SlotId) -> (RecordState, String) {
    let question = question(domain);
    let found = diagnose(&question.slots[slot], &question, &seen.slots[slot]);
    (found.state, found.message)
}

/// Addresses differ from run to run, and so does whether a resolver gives up before we do.
pub fn redact(text: &str) -> String {
    let mut text = without_addresses(text);
    for failure in [Failure::Timeout, Failure::ServFail] {
        text = text.replace(&format!(", the resolver IP {failure}"), ", the resolver IP cannot tell");
    }
    text
}

pub fn without_addresses(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("127.") {
        let end = rest[at..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(rest.len(), |n| at + n);
        out.push_str(&rest[..at]);
        out.push_str("IP");
        // A full stop that ends the sentence is no part of the address.
        out.push_str(if rest[at..end].ends_with('.') { "." } else { "" });
        rest = &rest[end..];
    }
    out + rest
}

/// A root, the registry of com, a hosting Knot, a resolver, and the provider.
pub struct Stage {
    pub tree: DnsTree,
    pub registry: Knot,
    _provider: FileServer,
    pub looker: Looker,
}

impl Stage {
    pub async fn start(domains: &[&str]) -> dkim_testbed::Result<Self> {
        let (tree, registry, provider) =
            tokio::try_join!(DnsTree::start(), Knot::start(), provider(domains))?;
        tree.add_zone_on(&registry, "com", 60).await?;
        tree.delegate("onmail.example", "ns1.onmail.example", provider.address().ip()).await?;
        let looker = Looker::new(config(&[tree.resolver()]));
        Ok(Self { tree, registry, _provider: provider, looker })
    }

    /// Delegates a zone below com.
    pub async fn delegate(&self, zone: &str, server: &str, ip: IpAddr) -> dkim_testbed::Result<()> {
        self.registry.add_record(&format!("{server}.{zone}"), 1, "A", &ip.to_string()).await?;
        self.registry.add_to("com", zone, 1, "NS", &format!("{server}.{zone}.")).await
    }

    /// A zone on the hosting server, with records as name, TTL, type and data.
    pub async fn host(
        &self,
        zone: &str,
        records: &[(String, u32, &str, String)],
    ) -> dkim_testbed::Result<()> {
        let hosting = self.tree.hosting();
        hosting.add_zone(zone, 600).await?;
        for (name, ttl, kind, data) in records {
            hosting.add_record(name, *ttl, kind, data).await?;
        }
        self.delegate(zone, "ns1", hosting.address().ip()).await
    }
}

pub fn cname(name: String, target: &str) -> (String, u32, &'static str, String) {
    (name, 3600, "CNAME", format!("{target}."))
}

/// Both CNAMEs, right, as lines of a zone file.
pub fn right_lines(domain: &str) -> String {
    [1, 2].map(|n| format!("{}. 60 IN CNAME {}.\n", alias(n, domain), target(n, domain))).concat()
}

pub fn right(domain: &str) -> Vec<(String, u32, &'static str, String)> {
    [1, 2].map(|n| cname(alias(n, domain), &target(n, domain))).to_vec()
}
