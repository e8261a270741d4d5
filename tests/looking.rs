//! Looking at DNS and telling what is wrong, on real servers: a root, a registry, tenants' servers of three makes, a
//! provider whose answers are cut, and resolvers. Each fault is made for real.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dkim_operator::lookup::{Limits, Looker, Lookout, LookoutConfig, LookupConfig, Pace, Reach, Timed};
use dkim_operator::model::diagnosis::{LinkEvidence, RecordState, diagnose, link_evidence};
use dkim_operator::model::name::{DnsName, DomainName};
use dkim_operator::model::selector::{PerSlot, SlotId};
use dkim_operator::model::sighting::{
    Failure, Observation, Outcome, Question, Security, ServerRole, SlotQuestion,
};
use dkim_testbed::{
    Address, Caching, DnsTree, FileServer, Knot, Pdns, SlowWay, Unbound, ZoneText, eventually, lookup, txt,
};
use jiff::Timestamp;

type Test = Result<(), Box<dyn std::error::Error>>;

const INITIAL: &str = "contoso.onmail.example";

fn guid(domain: &str) -> String {
    domain.replace('.', "-")
}

fn target(slot: u8, domain: &str) -> String {
    format!("selector{slot}-{}._domainkey.{INITIAL}", guid(domain))
}

fn alias(slot: u8, domain: &str) -> String {
    format!("selector{slot}._domainkey.{domain}")
}

fn question(domain: &str) -> Question {
    let slot = |n| SlotQuestion {
        alias: DnsName::new(alias(n, domain)).unwrap(),
        target: DnsName::new(target(n, domain)).unwrap(),
    };
    Question { domain: DomainName::parse(domain).unwrap(), slots: PerSlot([slot(1), slot(2)]) }
}

/// As long as that of an RSA key of 4096 bits: too long for 512 bytes.
fn key(domain: &str) -> String {
    format!("v=DKIM1; k=rsa; p={}{}", "A".repeat(700), data_encoding::BASE64.encode(domain.as_bytes()))
}

/// The provider's zone, with both keys of every domain, on a BIND that cuts answers at 512 bytes.
async fn provider(domains: &[&str]) -> dkim_testbed::Result<FileServer> {
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

fn loopback() -> Reach {
    Reach::allowing(["127.0.0.0/8".parse().unwrap()])
}

fn config(resolvers: &[SocketAddr]) -> LookupConfig {
    let limits = Limits { total: 1000, server: 1000, zone: 1000 };
    LookupConfig {
        resolvers: resolvers.iter().map(|r| (*r).into()).collect(),
        reach: loopback(),
        limits,
        ..LookupConfig::default()
    }
}

async fn look(looker: &Looker, domain: &str) -> Observation {
    looker.look(&question(domain), Timestamp::now(), true).await
}

fn told(domain: &str, seen: &Observation, slot: SlotId) -> (RecordState, String) {
    let question = question(domain);
    let found = diagnose(&question.slots[slot], &question, &seen.slots[slot]);
    (found.state, found.message)
}

/// Addresses differ from run to run, and so does whether a resolver gives up before we do.
fn redact(text: &str) -> String {
    let mut text = without_addresses(text);
    for failure in [Failure::Timeout, Failure::ServFail] {
        text = text.replace(&format!(", the resolver IP {failure}"), ", the resolver IP cannot tell");
    }
    text
}

fn without_addresses(text: &str) -> String {
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
struct Stage {
    tree: DnsTree,
    registry: Knot,
    _provider: FileServer,
    looker: Looker,
}

impl Stage {
    async fn start(domains: &[&str]) -> dkim_testbed::Result<Self> {
        let (tree, registry, provider) =
            tokio::try_join!(DnsTree::start(), Knot::start(), provider(domains))?;
        tree.add_zone_on(&registry, "com", 60).await?;
        tree.delegate("onmail.example", "ns1.onmail.example", provider.address().ip()).await?;
        let looker = Looker::new(config(&[tree.resolver()]));
        Ok(Self { tree, registry, _provider: provider, looker })
    }

    /// Delegates a zone below com.
    async fn delegate(&self, zone: &str, server: &str, ip: IpAddr) -> dkim_testbed::Result<()> {
        self.registry.add_record(&format!("{server}.{zone}"), 1, "A", &ip.to_string()).await?;
        self.registry.add_to("com", zone, 1, "NS", &format!("{server}.{zone}.")).await
    }

    /// A zone on the hosting server, with records as name, TTL, type and data.
    async fn host(&self, zone: &str, records: &[(String, u32, &str, String)]) -> dkim_testbed::Result<()> {
        let hosting = self.tree.hosting();
        hosting.add_zone(zone, 600).await?;
        for (name, ttl, kind, data) in records {
            hosting.add_record(name, *ttl, kind, data).await?;
        }
        self.delegate(zone, "ns1", hosting.address().ip()).await
    }
}

fn cname(name: String, target: &str) -> (String, u32, &'static str, String) {
    (name, 3600, "CNAME", format!("{target}."))
}

/// Both CNAMEs, right, as lines of a zone file.
fn right_lines(domain: &str) -> String {
    [1, 2].map(|n| format!("{}. 60 IN CNAME {}.\n", alias(n, domain), target(n, domain))).concat()
}

fn right(domain: &str) -> Vec<(String, u32, &'static str, String)> {
    [1, 2].map(|n| cname(alias(n, domain), &target(n, domain))).to_vec()
}

const DOMAINS: [(&str, RecordState); 35] = [
    ("verified.com", RecordState::Verified),
    ("missing.com", RecordState::Missing),
    ("nowhere.com", RecordState::NxDomain),
    ("typo.com", RecordState::WrongTarget),
    ("namespace.com", RecordState::WrongTarget),
    ("formerly.com", RecordState::WrongTarget),
    ("detour.com", RecordState::WrongTarget),
    ("swapped.com", RecordState::SwappedSelectors),
    ("relative.com", RecordState::RelativeTarget),
    ("underscore.com", RecordState::UnderscoreDropped),
    ("underscore-name.com", RecordState::UnderscoreDropped),
    ("dash.com", RecordState::DashInsteadOfDot),
    ("quotes.com", RecordState::QuotedTarget),
    ("doubled.com", RecordState::DoubledZone),
    ("txt.com", RecordState::TxtInsteadOfCname),
    ("both.com", RecordState::CnameAndTxt),
    ("hidden.com", RecordState::Verified),
    ("wildcard.com", RecordState::Wildcard),
    ("wildcard-txt.com", RecordState::Wildcard),
    ("circle.com", RecordState::CnameLoop),
    ("long.com", RecordState::ChainTooLong),
    ("flat.com", RecordState::Flattened),
    ("flat-lags.com", RecordState::Flattened),
    ("alias.com", RecordState::Missing),
    ("partly.com", RecordState::PartlyPropagated),
    ("stale.com", RecordState::StaleNegativeCache),
    ("split.com", RecordState::StaleNegativeCache),
    ("below.com", RecordState::Verified),
    ("slow.com", RecordState::Verified),
    ("too-slow.com", RecordState::Timeout),
    ("hangs.com", RecordState::Timeout),
    ("lame.com", RecordState::LameDelegation),
    ("fails.com", RecordState::ServFail),
    ("closed.com", RecordState::Unreachable),
    ("half-lame.com", RecordState::Verified),
];

#[tokio::test]
async fn every_fault_has_its_words() -> Test {
    let domains: Vec<&str> = DOMAINS.iter().map(|(domain, _)| *domain).collect();
    let stage = Stage::start(&domains).await?;
    let tree = &stage.tree;
    let hosting = tree.hosting().address().ip();
    let one = |domain: &str, target: &str| vec![cname(alias(1, domain), target)];
    let in_place = |ttl, domain: &str| (alias(1, domain), ttl, "TXT", txt(&key(domain)));

    stage.host("verified.com", &right("verified.com")).await?;
    stage.host("missing.com", &[]).await?;
    stage.host("typo.com", &one("typo.com", &target(1, "tpyo.com"))).await?;
    let other = target(1, "namespace.com").replace(INITIAL, "wingtip.onmail.example");
    stage.host("namespace.com", &one("namespace.com", &other)).await?;
    let before = "selector1-formerly-com._domainkey.formerly.onmicrosoft.com";
    stage.host("formerly.com", &one("formerly.com", before)).await?;
    let mut detour = one("detour.com", "dkim.detour.com");
    detour.push(cname("dkim.detour.com".into(), &target(1, "detour.com")));
    stage.host("detour.com", &detour).await?;
    stage.host("swapped.com", &one("swapped.com", &target(2, "swapped.com"))).await?;
    let relative = format!("{}.relative.com", target(1, "relative.com"));
    stage.host("relative.com", &one("relative.com", &relative)).await?;
    let bare = target(1, "underscore.com").replace("_domainkey", "domainkey");
    stage.host("underscore.com", &one("underscore.com", &bare)).await?;
    let name = "selector1.domainkey.underscore-name.com".to_owned();
    stage.host("underscore-name.com", &[cname(name, &target(1, "underscore-name.com"))]).await?;
    let dots = target(1, "dash.com").replace("selector1-dash-com", "selector1.dash.com");
    stage.host("dash.com", &one("dash.com", &dots)).await?;
    let quoted = format!("\\\"{}\\\".quotes.com", target(1, "quotes.com"));
    stage.host("quotes.com", &one("quotes.com", &quoted)).await?;
    let doubled = format!("{}.doubled.com", alias(1, "doubled.com"));
    stage.host("doubled.com", &[cname(doubled, &target(1, "doubled.com"))]).await?;
    stage.host("txt.com", &[(alias(1, "txt.com"), 60, "TXT", txt("v=DKIM1; k=rsa; p=QUJD"))]).await?;
    stage.host("wildcard.com", &[cname("*.wildcard.com".into(), "web.wildcard.com")]).await?;
    let everything = ("*.wildcard-txt.com".into(), 60, "TXT", txt("v=spf1 -all"));
    stage.host("wildcard-txt.com", &[everything]).await?;
    let mut circle = one("circle.com", "a.circle.com");
    circle.push(cname("a.circle.com".into(), "b.circle.com"));
    circle.push(cname("b.circle.com".into(), "a.circle.com"));
    stage.host("circle.com", &circle).await?;
    let mut long = one("long.com", "c0.long.com");
    long.extend((0..12).map(|n| cname(format!("c{n}.long.com"), &format!("c{}.long.com", n + 1))));
    stage.host("long.com", &long).await?;
    stage.host("flat.com", &[in_place(60, "flat.com")]).await?;
    stage.host("flat-lags.com", &[in_place(3600, "flat-lags.com")]).await?;

    // PowerDNS loads a TXT beside a CNAME, and shows receivers the CNAME alone; tinydns shows both.
    let address = Address::allocate()?;
    let records =
        right_lines("hidden.com") + &format!("{}. 60 IN TXT \"v=DKIM1; p=QUJD\"\n", alias(1, "hidden.com"));
    let powerdns =
        FileServer::powerdns(address.clone(), &[ZoneText::new("hidden.com", 600, address.ip(), &records)?])
            .await?;
    stage.delegate("hidden.com", "ns1", powerdns.address().ip()).await?;
    // Its ALIAS, told to be expanded, gives addresses and hides the key.
    let resolver = format!("resolver={}", tree.resolver());
    let expanding = Pdns::start_with(&[], &["expand-alias=yes", &resolver]).await?;
    let ip = expanding.address().ip();
    let record = format!("{}. 60 IN ALIAS {}.", alias(1, "alias.com"), target(1, "alias.com"));
    let soa = "@ 600 IN SOA ns1 hostmaster 1 3600 600 604800 600";
    let zone = format!("{soa}\n@ 600 IN NS ns1\nns1 600 IN A {ip}\n{record}\n");
    expanding.set_zone("alias.com", &zone).await?;
    stage.delegate("alias.com", "ns1", ip).await?;
    let cname = format!("C{}:{}:60", alias(1, "both.com"), target(1, "both.com"));
    let text = format!("'{}:v=DKIM1; p=QUJD:60", alias(1, "both.com"));
    let tinydns = FileServer::tinydns(Address::allocate()?, "both.com", &format!("{cname}\n{text}")).await?;
    stage.delegate("both.com", "ns1", tinydns.address().ip()).await?;

    // BIND: a server that is behind, one that cannot read its zone, one that shows the resolver something else.
    let address = Address::allocate()?;
    let zones = [
        ZoneText::new("partly.com", 600, address.ip(), "")?,
        ZoneText::broken("fails.com")?,
        ZoneText::new("split.com", 600, address.ip(), &right_lines("split.com"))?,
        ZoneText::new("split.com", 600, address.ip(), "")?.only_for(tree.resolver().ip()),
        ZoneText::new("_domainkey.below.com", 600, address.ip(), &right_lines("below.com"))?,
    ];
    let bind = FileServer::bind(address, &zones, 1232).await?;
    let elsewhere = bind.address().ip();
    stage.host("partly.com", &right("partly.com")).await?;
    stage.delegate("partly.com", "ns2", elsewhere).await?;
    stage.delegate("fails.com", "ns1", elsewhere).await?;
    stage.delegate("split.com", "ns1", elsewhere).await?;
    // A zone of its own for the keys.
    stage.host("below.com", &[("ns.below.com".into(), 1, "A", elsewhere.to_string())]).await?;
    tree.hosting().add_to("below.com", "_domainkey.below.com", 1, "NS", "ns.below.com.").await?;

    // Slow ways to servers that have the record, and a server that hangs.
    let slow = SlowWay::to(tree.hosting().address(), Duration::from_millis(400)).await?;
    let too_slow = SlowWay::to(tree.hosting().address(), Duration::from_secs(4)).await?;
    for (zone, way) in [("slow.com", &slow), ("too-slow.com", &too_slow)] {
        tree.hosting().add_zone(zone, 600).await?;
        for (name, ttl, kind, data) in right(zone) {
            tree.hosting().add_record(&name, ttl, kind, &data).await?;
        }
        stage.delegate(zone, "ns1", way.address().ip()).await?;
    }
    let hangs = Knot::start().await?;
    hangs.add_zone("hangs.com", 600).await?;
    stage.delegate("hangs.com", "ns1", hangs.address().ip()).await?;
    hangs.pause().await?;

    // Servers that do not serve what they are named for, or are not there.
    stage.delegate("lame.com", "ns1", hosting).await?;
    let nobody = Address::allocate()?;
    stage.delegate("closed.com", "ns1", nobody.ip()).await?;
    stage.host("half-lame.com", &right("half-lame.com")).await?;
    stage.delegate("half-lame.com", "ns2", elsewhere).await?;

    // Somebody asked the resolver before the record was there.
    stage.host("stale.com", &[]).await?;
    assert_eq!(tree.lookup(&alias(1, "stale.com"), "TXT").await?.code, "NXDOMAIN");
    for (name, ttl, kind, data) in right("stale.com") {
        tree.hosting().add_record(&name, ttl, kind, &data).await?;
    }

    let begin = Instant::now();
    let looks = futures::future::join_all(domains.iter().map(|domain| look(&stage.looker, domain))).await;
    println!("{} looks in {:?}, {} questions", looks.len(), begin.elapsed(), stage.looker.sent());
    let mut said = String::new();
    for ((domain, state), seen) in DOMAINS.iter().zip(&looks) {
        let (found, message) = told(domain, seen, SlotId::One);
        said.push_str(&format!("{domain}: {found}: {}\n", redact(&message)));
        if found != *state {
            said.push_str(&format!("  EXPECTED {state}: {:#?}\n", seen.slots[SlotId::One]));
        }
        // Words and proof agree.
        let question = question(domain);
        let evidence = link_evidence(&question.slots[SlotId::One], &seen.slots[SlotId::One]);
        let verified = matches!(evidence, LinkEvidence::Verified { .. });
        let counts = matches!(
            (state, *domain),
            (RecordState::Verified | RecordState::StaleNegativeCache, _)
                | (RecordState::Flattened, "flat.com")
        );
        assert_eq!(verified, counts, "{domain}: {evidence:?}");
        assert_eq!(
            matches!(evidence, LinkEvidence::Unknown { .. }),
            state.is_unclear() || *domain == "flat-lags.com"
        );
        // The key came over TCP, being too long for the provider's UDP.
        let txt = Outcome::Txt { texts: vec![key(domain)], ttl: 60 };
        assert!(seen.slots[SlotId::Two].target_txt.iter().any(|a| a.outcome == txt), "{domain}: {seen:#?}");
    }
    assert!(!said.contains("EXPECTED"), "{said}");
    insta::assert_snapshot!(said);
    Ok(())
}

#[tokio::test]
async fn a_look_plants_no_negative_answer_in_resolvers() -> Test {
    let stage = Stage::start(&[]).await?;
    stage.host("fresh.com", &[]).await?;
    for _ in 0..3 {
        let seen = look(&stage.looker, "fresh.com").await;
        assert_eq!(told("fresh.com", &seen, SlotId::One).0, RecordState::Missing);
        assert!(seen.slots.0.iter().all(|s| s.alias.iter().all(|a| a.role == ServerRole::Authoritative)));
    }
    // The zone's negative answers would be remembered for ten minutes, and the registry's for one.
    for (name, ttl, kind, data) in right("fresh.com") {
        stage.tree.hosting().add_record(&name, ttl, kind, &data).await?;
    }
    for n in [1, 2] {
        let answer = stage.tree.lookup(&alias(n, "fresh.com"), "CNAME").await?;
        assert_eq!(answer.data("CNAME"), [format!("{}.", target(n, "fresh.com"))]);
    }
    let seen = look(&stage.looker, "fresh.com").await;
    let (state, message) = told("fresh.com", &seen, SlotId::One);
    assert_eq!(state, RecordState::Verified, "{message}");
    // The key is not there yet: nobody but the provider's own server was asked for it.
    assert!(
        seen.slots[SlotId::One].target_txt.iter().all(|a| a.role == ServerRole::Authoritative),
        "{seen:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn dnssec_is_told_as_validators_see_it() -> Test {
    let domains = ["signed.com", "broken.com", "plain.com"];
    let (tree, provider) = tokio::try_join!(DnsTree::start_signed(), provider(&domains))?;
    tree.delegate("onmail.example", "ns1.onmail.example", provider.address().ip()).await?;
    for domain in domains {
        tree.add_zone(domain, 600).await?;
        for (name, ttl, kind, data) in right(domain) {
            tree.add_record(&name, ttl, kind, &data).await?;
        }
    }
    tree.sign("signed.com", false).await?;
    tree.sign("broken.com", true).await?;
    let looker = Looker::new(config(&[tree.resolver()]));
    let mut said = String::new();
    for (domain, state, security) in [
        // The way ends in the provider's zone, which is not signed: nothing is validated as a whole.
        ("signed.com", RecordState::Verified, Security::Unproven),
        ("broken.com", RecordState::DnssecBogus, Security::Bogus),
        ("plain.com", RecordState::Verified, Security::Unproven),
    ] {
        let seen = look(&looker, domain).await;
        let (found, message) = told(domain, &seen, SlotId::One);
        assert_eq!(found, state, "{message}\n{seen:#?}");
        assert_eq!(seen.slots[SlotId::One].validation[0].security, security, "{domain}");
        said.push_str(&format!("{domain}: {found}: {}\n", redact(&message)));
    }
    // Signed from end to end.
    tree.add_zone("contoso.onmail.test", 60).await?;
    let mut whole = question("signed.com");
    for n in [1, 2] {
        let name = target(n, "signed.com").replace("example", "test");
        tree.add_record(&name, 60, "TXT", &txt(&key("signed.com"))).await?;
        tree.remove(&alias(n, "signed.com"), "CNAME").await?;
        tree.add_record(&alias(n, "signed.com"), 60, "CNAME", &format!("{name}.")).await?;
        whole.slots.0[usize::from(n) - 1].target = DnsName::new(&name)?;
    }
    tree.sign("contoso.onmail.test", false).await?;
    tree.unbound().flush().await?;
    let seen = looker.look(&whole, Timestamp::now(), true).await;
    let found = diagnose(&whole.slots[SlotId::One], &whole, &seen.slots[SlotId::One]);
    assert_eq!(seen.slots[SlotId::One].validation[0].security, Security::Secure, "{seen:#?}");
    said.push_str(&format!("from end to end: {}: {}\n", found.state, redact(&found.message)));
    insta::assert_snapshot!(said);
    Ok(())
}

/// The publisher's way of looking: whose a record is, only the mark beside it says, on the same server.
#[tokio::test]
async fn each_server_that_is_asked_for_a_cname_is_asked_for_its_mark() -> Test {
    let stage = Stage::start(&["more.com"]).await?;
    let (name, mark) = (alias(1, "more.com"), format!("_owner.{}", alias(1, "more.com")));
    let records = format!("{name}. 60 IN CNAME former.example.\n{mark}. 60 IN TXT \"ours\"\n");
    let address = Address::allocate()?;
    let zone = ZoneText::new("more.com", 60, address.ip(), &records)?;
    let second = FileServer::bind(address, &[zone], 1232).await?;
    // Only the zone itself names the second server.
    let hosted = [
        (name.clone(), 60, "CNAME", "former.example.".to_owned()),
        (mark.clone(), 60, "TXT", "\"ours\"".to_owned()),
        ("more.com".to_owned(), 1, "NS", "ns2.more.com.".to_owned()),
        ("ns2.more.com".to_owned(), 1, "A", second.address().ip().to_string()),
    ];
    stage.host("more.com", &hosted).await?;
    let (name, mark) = (DnsName::new(name)?, DnsName::new(mark)?);
    let seen = stage.looker.links(&name, &mark).await;
    assert_eq!(seen.len(), 2, "{seen:#?}");
    for server in &seen {
        assert!(matches!(server.record.outcome, Outcome::Cname { .. }), "{seen:#?}");
        assert!(matches!(&server.mark, Outcome::Txt { texts, .. } if texts == &["ours"]), "{seen:#?}");
    }
    // Where nothing but a resolver is heard, that is asked for both as well.
    let only = LookupConfig { authoritative: false, ..config(&[stage.tree.resolver()]) };
    let seen = Looker::new(only).links(&name, &mark).await;
    assert!(matches!(&seen.as_slice(), [one] if matches!(one.mark, Outcome::Txt { .. })), "{seen:#?}");
    Ok(())
}

#[tokio::test]
async fn resolvers_alone_do_where_nothing_else_is_let_out() -> Test {
    let domains = ["there.com", "gone.com", "flat.com"];
    let stage = Stage::start(&domains).await?;
    stage.host("there.com", &right("there.com")).await?;
    stage.host("gone.com", &[]).await?;
    let copies = [1, 2].map(|n| (alias(n, "flat.com"), 60, "TXT", txt(&key("flat.com"))));
    stage.host("flat.com", &copies).await?;
    let closed = FileServer::bind(Address::allocate()?, &[], 1232).await?;
    let only = |resolver| LookupConfig { authoritative: false, ..config(&[resolver]) };
    let looker = Looker::new(only(stage.tree.resolver()));
    let mut said = String::new();
    for (domain, state) in [
        ("there.com", RecordState::Verified),
        ("gone.com", RecordState::Missing),
        ("flat.com", RecordState::Flattened),
    ] {
        let seen = look(&looker, domain).await;
        let (found, message) = told(domain, &seen, SlotId::One);
        assert_eq!(found, state, "{message}\n{seen:#?}");
        said.push_str(&format!("{domain}: {found}: {}\n", redact(&message)));
    }
    let seen = look(&Looker::new(only(closed.address())), "there.com").await;
    let (found, message) = told("there.com", &seen, SlotId::One);
    said.push_str(&format!("a resolver that serves others: {found}: {}\n", redact(&message)));
    assert_eq!(found, RecordState::Refused);
    insta::assert_snapshot!(said);
    Ok(())
}

#[tokio::test]
async fn resolvers_are_asked_over_tls_and_https_if_their_certificate_is_right() -> Test {
    let stage = Stage::start(&["private.com"]).await?;
    stage.host("private.com", &right("private.com")).await?;
    let (unbound, authority) = Unbound::over_tls(stage.tree.root().address().ip()).await?;
    let ip = unbound.address().ip();
    // An authority that did not sign its certificate.
    let (_, stranger) = Unbound::over_tls(stage.tree.root().address().ip()).await?;
    let only = |resolver: &str, authorities: &str| LookupConfig {
        resolvers: vec![resolver.parse().unwrap()],
        authorities: Some(authorities.to_owned()),
        authoritative: false,
        ..config(&[])
    };
    for (resolver, authorities, state) in [
        (format!("tls://{ip}"), authority.as_str(), RecordState::Verified),
        (format!("tls://{ip}#localhost"), &authority, RecordState::Verified),
        (format!("tls://{ip}#dns.example"), &authority, RecordState::Unreachable),
        (format!("tls://{ip}"), &stranger, RecordState::Unreachable),
        (format!("tls://{ip}"), "", RecordState::Unreachable),
        (format!("https://{ip}/dns-query"), &authority, RecordState::Verified),
        (format!("https://{ip}#localhost"), &authority, RecordState::Verified),
        (format!("https://{ip}#dns.example"), &authority, RecordState::Unreachable),
        (format!("https://{ip}/elsewhere"), &authority, RecordState::Unreachable),
        // A server for TLS alone waits for a question that never comes.
        (format!("https://{ip}:853"), &authority, RecordState::Timeout),
        (format!("https://{ip}"), &stranger, RecordState::Unreachable),
    ] {
        let seen = look(&Looker::new(only(&resolver, authorities)), "private.com").await;
        let (found, message) = told("private.com", &seen, SlotId::One);
        assert_eq!(found, state, "{resolver}: {message}");
        let txt = Outcome::Txt { texts: vec![key("private.com")], ttl: 60 };
        let there = seen.slots[SlotId::One].target_txt.iter().any(|a| {
            matches!((&a.outcome, &txt),
            (Outcome::Txt { texts: a, .. }, Outcome::Txt { texts: b, .. }) if a == b)
        });
        assert_eq!(there, state == RecordState::Verified);
    }
    // The zones' own servers are found through it as well.
    for way in ["tls", "https"] {
        let walks = LookupConfig { authoritative: true, ..only(&format!("{way}://{ip}"), &authority) };
        let seen = look(&Looker::new(walks), "private.com").await;
        assert_eq!(told("private.com", &seen, SlotId::One).0, RecordState::Verified, "{seen:#?}");
        assert_eq!(seen.slots[SlotId::One].alias[0].role, ServerRole::Authoritative);
    }
    Ok(())
}

#[tokio::test]
async fn a_resolver_that_is_shown_another_version_is_no_stale_cache() -> Test {
    let stage = Stage::start(&["view.com"]).await?;
    let address = Address::allocate()?;
    let zones = [
        ZoneText::new("view.com", 2, address.ip(), &right_lines("view.com"))?,
        ZoneText::new("view.com", 2, address.ip(), "")?.only_for(stage.tree.resolver().ip()),
    ];
    let bind = FileServer::bind(address, &zones, 1232).await?;
    stage.delegate("view.com", "ns1", bind.address().ip()).await?;
    let (lookout, _news) = Lookout::new(LookoutConfig::default());
    let looker = Arc::new(Looker::new(config(&[stage.tree.resolver()])));
    let looker = Arc::new(Timed::new(looker, Timestamp::now));
    lookout.watch(1, question("view.com"), Pace { every: Duration::from_secs(1) }, looker);
    let mut said: Vec<String> = Vec::new();
    eventually(Duration::from_secs(30), "the other view is told", || {
        lookout.wake(&1);
        let seen = lookout.latest(&1);
        let (state, message) =
            seen.map_or((RecordState::Pending, String::new()), |seen| told("view.com", &seen, SlotId::One));
        let other = message.contains("goes on saying so");
        said.push(format!("{state}: {}", redact(&message)));
        let result = if other { Ok(()) } else { Err(message) };
        async { result }
    })
    .await?;
    let first = said.iter().find(|words| !words.starts_with("Pending")).unwrap();
    assert!(first.starts_with("StaleNegativeCache") && first.contains("from its cache"), "{first}");
    insta::assert_snapshot!(said.last().unwrap());
    Ok(())
}

#[tokio::test]
async fn addresses_that_are_not_public_are_left_alone() -> Test {
    let stage = Stage::start(&["inside.com"]).await?;
    stage.host("inside.com", &right("inside.com")).await?;
    // The root's address is configured, and so may be asked; what it delegates to is not public.
    let roots = vec![stage.tree.root().address()];
    let strict = LookupConfig { reach: Reach::default(), roots, ..config(&[stage.tree.resolver()]) };
    let seen = look(&Looker::new(strict), "inside.com").await;
    let own: Vec<&Outcome> = seen.slots[SlotId::One]
        .alias
        .iter()
        .filter(|a| a.role == ServerRole::Authoritative)
        .map(|a| &a.outcome)
        .collect();
    assert_eq!(own, [&Outcome::Failed(Failure::PrivateAddress)], "{seen:#?}");
    // What resolvers say stands in.
    assert_eq!(told("inside.com", &seen, SlotId::One).0, RecordState::Verified);
    Ok(())
}

#[tokio::test]
async fn a_hostile_delegation_costs_no_more_than_any_other() -> Test {
    let stage = Stage::start(&["hostile.com"]).await?;
    // A hundred servers whose names must be looked up, each in another zone that is not there.
    for n in 0..100 {
        let server = format!("ns.victim{n}.com.");
        stage.registry.add_to("com", "hostile.com", 1, "NS", &server).await?;
    }
    let begin = Instant::now();
    let seen = look(&stage.looker, "hostile.com").await;
    println!("{} questions in {:?}", stage.looker.sent(), begin.elapsed());
    assert!(stage.looker.sent() <= 60, "{} questions", stage.looker.sent());
    assert!(begin.elapsed() < Duration::from_secs(13));
    assert!(told("hostile.com", &seen, SlotId::One).0.is_unclear());
    Ok(())
}

#[tokio::test]
async fn what_a_walk_finds_is_remembered() -> Test {
    let domains = ["one.com", "two.com"];
    let (root, com, hosting) = tokio::try_join!(Knot::start(), Knot::start(), Knot::start())?;
    let provider = provider(&domains).await?;
    root.add_zone(".", 60).await?;
    com.add_zone("com", 60).await?;
    let add = async |knot: &Knot, zone: &str, child: &str, ip: IpAddr| {
        knot.add_to(zone, &format!("ns1.{child}"), 300, "A", &ip.to_string()).await?;
        knot.add_to(zone, child, 300, "NS", &format!("ns1.{child}.")).await
    };
    add(&root, ".", "com", com.address().ip()).await?;
    add(&root, ".", "onmail.example", provider.address().ip()).await?;
    for domain in domains {
        hosting.add_zone(domain, 60).await?;
        add(&com, "com", domain, hosting.address().ip()).await?;
    }
    let unbound = Unbound::start(root.address().ip(), Caching::default()).await?;
    let looker = Looker::new(config(&[unbound.address()]));
    look(&looker, "one.com").await;
    let first = looker.sent();
    look(&looker, "one.com").await;
    let second = looker.sent() - first;
    println!("the first look took {first} questions, the second {second}");
    // Two slots, each: the alias, two usual mistakes, the target there and at the resolver.
    assert!(second <= 10 && second < first, "{first} and then {second}");
    // Without root and registry it still finds its way.
    root.stop().await?;
    com.stop().await?;
    let seen = look(&looker, "one.com").await;
    assert_eq!(told("one.com", &seen, SlotId::One).0, RecordState::Missing, "{seen:#?}");
    assert!(lookup(root.address(), "com", "NS").await.is_err());
    Ok(())
}
