//! Down the delegations to the servers of a zone, and no further than is right.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use dkim_operator::lookup::{Looker, LookupConfig, Reach};
use dkim_operator::model::diagnosis::RecordState;
use dkim_operator::model::name::DnsName;
use dkim_operator::model::selector::SlotId;
use dkim_operator::model::sighting::{Failure, Outcome, ServerRole};
use dkim_testbed::{Address, Caching, FileServer, Knot, Unbound, ZoneText, lookup};

use crate::Test;
use crate::stage::{Stage, alias, config, look, provider, right, told};

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
