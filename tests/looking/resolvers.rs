//! What resolvers are asked, and what they say.

use std::sync::Arc;
use std::time::Duration;

use dkim_operator::lookup::{Looker, Lookout, LookoutConfig, LookupConfig, Pace, Timed};
use dkim_operator::model::diagnosis::{RecordState, diagnose};
use dkim_operator::model::name::DnsName;
use dkim_operator::model::selector::SlotId;
use dkim_operator::model::sighting::{Outcome, Security, ServerRole};
use dkim_testbed::{Address, DnsTree, FileServer, Unbound, ZoneText, eventually, txt};
use jiff::Timestamp;

use crate::Test;
use crate::stage::{
    Stage, alias, config, key, look, provider, question, redact, right, right_lines, target, told,
};

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
