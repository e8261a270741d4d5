//! Servers of three makes: they serve, take updates with their key, and refuse others.

use std::net::SocketAddr;

use dkim_testbed::{Bind, Knot, Pdns, TsigKey, lookup, nsupdate};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

const NAME: &str = "selector1._domainkey.contoso.com";

async fn takes_updates(server: SocketAddr, key: &TsigKey) -> Outcome {
    let add = format!("add {NAME} 60 TXT \"one\"");
    let stranger = TsigKey { secret: TsigKey::random("x", "y").secret, ..key.clone() };
    assert!(nsupdate(server, &stranger, "contoso.com", &add).await.is_err(), "a wrong key is taken");
    assert_eq!(lookup(server, NAME, "TXT").await?.code, "NXDOMAIN");
    nsupdate(server, key, "contoso.com", &add).await?;
    assert_eq!(lookup(server, NAME, "TXT").await?.data("TXT"), ["one"]);
    Ok(())
}

#[tokio::test]
async fn bind() -> Outcome {
    let key = TsigKey::random("update", "hmac-sha256");
    let bind = Bind::start(std::slice::from_ref(&key)).await?;
    bind.add_zone("contoso.com", 1).await?;
    takes_updates(bind.address(), &key).await?;
    bind.stop().await?;
    assert!(lookup(bind.address(), NAME, "TXT").await.is_err());
    bind.resume().await?;
    assert_eq!(lookup(bind.address(), NAME, "TXT").await?.data("TXT"), ["one"]);
    Ok(())
}

#[tokio::test]
async fn knot() -> Outcome {
    let key = TsigKey::random("update", "hmac-sha512");
    let knot = Knot::start_with(std::slice::from_ref(&key)).await?;
    knot.add_zone("contoso.com", 1).await?;
    takes_updates(knot.address(), &key).await
}

#[tokio::test]
async fn powerdns() -> Outcome {
    let key = TsigKey::random("update", "hmac-sha256");
    let pdns = Pdns::start(std::slice::from_ref(&key)).await?;
    pdns.add_zone("contoso.com", 1).await?;
    takes_updates(pdns.address(), &key).await
}

#[tokio::test]
async fn zones_that_are_fixed_can_be_replaced() -> Outcome {
    let text = |data: &str| {
        format!(
            "@ 1 SOA ns1.contoso.com. hostmaster.contoso.com. 1 2 2 3600 1\n@ 1 NS ns1.contoso.com.\nns1 1 A 127.0.0.1\nwww 1 TXT {data}\n"
        )
    };
    let (bind, pdns) = (Bind::start(&[]).await?, Pdns::start(&[]).await?);
    for data in ["one", "two"] {
        bind.set_zone("contoso.com", &text(data)).await?;
        assert_eq!(lookup(bind.address(), "www.contoso.com", "TXT").await?.data("TXT"), [data]);
    }
    pdns.set_zone("contoso.com", &text("one")).await?;
    assert_eq!(lookup(pdns.address(), "www.contoso.com", "TXT").await?.data("TXT"), ["one"]);
    Ok(())
}
