//! Every fault that a tenant can make is told in words.

use std::time::{Duration, Instant};

use dkim_operator::model::diagnosis::{LinkEvidence, RecordState, link_evidence};
use dkim_operator::model::selector::SlotId;
use dkim_operator::model::sighting::Outcome;
use dkim_testbed::{Address, FileServer, Knot, Pdns, SlowWay, ZoneText, txt};

use crate::Test;
use crate::stage::{
    INITIAL, Stage, alias, cname, key, look, question, redact, right, right_lines, target, told,
};

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
