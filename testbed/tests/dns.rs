//! The DNS tree: delegation, changes, faults.

use std::time::{Duration, Instant};

use dkim_testbed::{Address, Caching, DnsTree, Knot, eventually, lookup, txt};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

const SELECTOR: &str = "selector1._domainkey.contoso.com";

#[tokio::test]
async fn a_chain_over_two_tenants_resolves() -> Outcome {
    let started = Instant::now();
    let tree = DnsTree::start().await?;
    println!("tree ready after {:?}", started.elapsed());
    tree.add_zone("contoso.com", 1).await?;
    tree.add_zone("onmail.example", 1).await?;
    println!("with two zones after {:?}", started.elapsed());
    let target = "selector1-contoso-com._domainkey.contoso.onmail.example.";
    let key = format!("v=DKIM1; k=rsa; p={}", "A".repeat(392));
    tree.add_record(SELECTOR, 3600, "CNAME", target).await?;
    tree.add_record(target, 60, "TXT", &txt(&key)).await?;

    let answer = tree.lookup(SELECTOR, "TXT").await?;
    assert_eq!(answer.data("CNAME"), [target]);
    assert_eq!(answer.data("TXT"), [key.as_str()]);
    assert!(!answer.authoritative);
    let direct = lookup(tree.authoritative(), SELECTOR, "CNAME").await?;
    assert!(direct.authoritative);
    let referral = lookup(tree.root().address(), SELECTOR, "CNAME").await?;
    assert_eq!((referral.authoritative, referral.authority[0].data.as_str()), (false, "ns1.contoso.com."));
    for (name, usage) in [("knot", tree.hosting().usage().await?), ("unbound", tree.unbound().usage().await?)]
    {
        println!("{name}: {} MB resident, {:?} CPU", usage.resident / 1_000_000, usage.cpu);
    }
    Ok(())
}

#[tokio::test]
async fn changes_are_seen() -> Outcome {
    let tree = DnsTree::start().await?;
    tree.add_zone("contoso.com", 1).await?;
    assert_eq!(tree.lookup(SELECTOR, "TXT").await?.code, "NXDOMAIN");
    let started = Instant::now();
    tree.add_record(SELECTOR, 1, "TXT", "one").await?;
    println!("record there after {:?}", started.elapsed());
    assert_eq!(lookup(tree.authoritative(), SELECTOR, "TXT").await?.data("TXT"), ["one"]);
    eventually(Duration::from_secs(5), "the resolver sees it", || async {
        let answer = tree.lookup(SELECTOR, "TXT").await.map_err(|error| error.to_string())?;
        if answer.data("TXT") == ["one"] { Ok(()) } else { Err(answer.to_string()) }
    })
    .await?;
    assert_eq!(tree.remove(SELECTOR, "TXT").await?, 1);
    tree.add_record(SELECTOR, 1, "TXT", "two").await?;
    tree.unbound().flush().await?;
    assert_eq!(tree.lookup(SELECTOR, "TXT").await?.data("TXT"), ["two"]);
    Ok(())
}

#[tokio::test]
async fn negative_answers_are_kept_as_long_as_the_zone_says() -> Outcome {
    let tree = DnsTree::start().await?;
    tree.add_zone("contoso.com", 600).await?;
    assert_eq!(tree.lookup(SELECTOR, "TXT").await?.code, "NXDOMAIN");
    tree.add_record(SELECTOR, 1, "TXT", "late").await?;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(tree.lookup(SELECTOR, "TXT").await?.code, "NXDOMAIN");
    tree.unbound().flush_name("contoso.com").await?;
    assert_eq!(tree.lookup(SELECTOR, "TXT").await?.data("TXT"), ["late"]);

    let brisk = DnsTree::start_with(Caching { max_negative_ttl: 0, ..Caching::default() }).await?;
    brisk.add_zone("contoso.com", 600).await?;
    assert_eq!(brisk.lookup(SELECTOR, "TXT").await?.code, "NXDOMAIN");
    brisk.add_record(SELECTOR, 1, "TXT", "soon").await?;
    assert_eq!(brisk.lookup(SELECTOR, "TXT").await?.data("TXT"), ["soon"]);
    Ok(())
}

#[tokio::test]
async fn zones_can_live_elsewhere() -> Outcome {
    let tree = DnsTree::start().await?;
    let other = Knot::start().await?;
    tree.add_zone_on(&other, "fabrikam.com", 1).await?;
    other.add_record("www.fabrikam.com", 1, "TXT", "other").await?;
    assert_eq!(tree.lookup("www.fabrikam.com", "TXT").await?.data("TXT"), ["other"]);

    // A child of a hosted zone is delegated in its parent.
    tree.add_zone("contoso.com", 1).await?;
    other.add_zone("_domainkey.contoso.com", 1).await?;
    other.add_record(SELECTOR, 1, "TXT", "child").await?;
    tree.delegate("_domainkey.contoso.com", "ns.contoso.com", other.address().ip()).await?;
    assert_eq!(tree.lookup(SELECTOR, "TXT").await?.data("TXT"), ["child"]);
    let referral = lookup(tree.authoritative(), SELECTOR, "TXT").await?;
    assert_eq!((referral.authoritative, referral.authority[0].data.as_str()), (false, "ns.contoso.com."));
    tree.undelegate("_domainkey.contoso.com").await?;
    assert_eq!(lookup(tree.authoritative(), SELECTOR, "TXT").await?.code, "NXDOMAIN");

    // A server that does not know the zone: a lame delegation.
    tree.delegate("lame.example", "ns1.lame.example", other.address().ip()).await?;
    assert_eq!(tree.lookup("a.lame.example", "TXT").await?.code, "SERVFAIL");
    Ok(())
}

#[tokio::test]
async fn faults_come_and_go() -> Outcome {
    let knot = Knot::start().await?;
    knot.add_zone("contoso.com", 1).await?;
    knot.pause().await?;
    let hangs =
        tokio::time::timeout(Duration::from_millis(300), lookup(knot.address(), "contoso.com", "SOA"));
    assert!(hangs.await.is_err());
    knot.resume().await?;
    assert!(lookup(knot.address(), "contoso.com", "SOA").await?.authoritative);
    knot.stop().await?;
    assert!(lookup(knot.address(), "contoso.com", "SOA").await.is_err());
    knot.add_record(SELECTOR, 1, "TXT", "meanwhile").await?;
    knot.resume().await?;
    assert_eq!(lookup(knot.address(), SELECTOR, "TXT").await?.data("TXT"), ["meanwhile"]);
    Ok(())
}

#[tokio::test]
async fn what_the_server_refuses_changes_nothing() -> Outcome {
    let knot = Knot::start().await?;
    knot.add_zone("contoso.com", 1).await?;
    knot.add_record(SELECTOR, 1, "TXT", "one").await?;
    let refused = knot.add_record(SELECTOR, 1, "CNAME", "elsewhere.example.").await;
    assert!(refused.as_ref().is_err_and(|error| error.to_string().contains("CNAME")), "{refused:?}");
    knot.add_record("b.contoso.com", 1, "TXT", "two").await?;
    assert_eq!(lookup(knot.address(), "b.contoso.com", "TXT").await?.data("TXT"), ["two"]);

    assert!(knot.set_zone("fabrikam.com", "this is no zone (").await.is_err());
    assert_eq!(lookup(knot.address(), "fabrikam.com", "SOA").await?.code, "REFUSED");
    let text =
        "@ 1 IN SOA ns1 hostmaster 1 2 2 60 1\n@ 1 IN NS ns1\nns1 1 IN A 127.0.0.1\n*._domainkey TXT wild\n";
    knot.set_zone("fabrikam.com", text).await?;
    let wild = lookup(knot.address(), "selector1._domainkey.fabrikam.com", "TXT").await?;
    assert_eq!(wild.data("TXT"), ["wild"]);
    assert!(knot.remove_zone("fabrikam.com").await?);
    assert_eq!(lookup(knot.address(), "fabrikam.com", "SOA").await?.code, "REFUSED");
    Ok(())
}

#[tokio::test]
async fn long_answers_come_over_tcp() -> Outcome {
    let knot = Knot::start().await?;
    knot.add_zone("contoso.com", 1).await?;
    let long = "x".repeat(3000);
    knot.add_record(SELECTOR, 1, "TXT", &txt(&long)).await?;
    let answer = lookup(knot.address(), SELECTOR, "TXT").await?;
    assert!(answer.over_tcp);
    assert_eq!(answer.data("TXT"), [long.as_str()]);
    Ok(())
}

#[test]
fn addresses_are_distinct_and_given_back() -> Outcome {
    let many: Vec<Address> = (0..200).map(|_| Address::allocate()).collect::<Result<_, _>>()?;
    let distinct: std::collections::HashSet<_> = many.iter().map(Address::ip).collect();
    assert_eq!(distinct.len(), many.len());
    assert!(many.iter().all(|address| address.ip().is_loopback()));
    Ok(())
}
