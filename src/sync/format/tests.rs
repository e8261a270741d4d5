use super::*;
use crate::api::Canonicalization::Simple;
use crate::api::signing_config::FORMAT_VERSION;
use crate::model::key::KeyFingerprint;
use crate::signing::testing::signature_config;

fn signature(d: &str, s: &str, algorithm: Algorithm, key_file: &str) -> SignatureConfig {
    SignatureConfig {
        d: d.to_owned(),
        s: s.to_owned(),
        key_file: key_file.to_owned(),
        fingerprint: KeyFingerprint::of(key_file.as_bytes()),
        body_canonicalization: Simple,
        oversign: algorithm == Algorithm::Ed25519,
        expiration_seconds: (algorithm == Algorithm::Ed25519).then_some(604_800),
        ..signature_config(algorithm)
    }
}

fn set(format: Format, domain: &str, signatures: Vec<SignatureConfig>) -> Option<SigningConfig> {
    let domain = DomainName::parse(domain).unwrap();
    let signatures: Vec<SignatureConfig> =
        signatures.into_iter().filter(|s| format.encoding(&domain, s).is_ok()).collect();
    (!signatures.is_empty()).then_some(SigningConfig { format_version: FORMAT_VERSION, domain, signatures })
}

/// A domain with two signatures whose key before this one is still known, an international one, and one that is
/// signed as the provider.
fn shown(format: Format) -> String {
    let active: Vec<SigningConfig> = [
        set(
            format,
            "contoso.com",
            vec![
                signature("contoso.com", "selector2", Algorithm::Rsa, "22222222222222222222222222222222.pem"),
                signature("contoso.com", "ed", Algorithm::Ed25519, "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee.key"),
            ],
        ),
        set(
            format,
            "fabrikam.com",
            vec![signature(
                "contoso.onmail.example",
                "selector1-fabrikam-com",
                Algorithm::Rsa,
                "33333333333333333333333333333333.pem",
            )],
        ),
        set(
            format,
            "bücher.example",
            vec![signature(
                "xn--bcher-kva.example",
                "s",
                Algorithm::Rsa,
                "44444444444444444444444444444444.pem",
            )],
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    let retired = set(
        format,
        "contoso.com",
        vec![signature("contoso.com", "selector1", Algorithm::Rsa, "11111111111111111111111111111111.pem")],
    );
    let known: Vec<SigningConfig> = active.iter().cloned().chain(retired).collect();
    let tables = format.tables(&View { root: Path::new("/dkim"), active: &active, known: &known });
    let one = |table: Table| match table.content {
        Content::Text(text) => format!("=== {}\n{text}", table.path),
        Content::Link(target) => format!("=== {} -> {}\n", table.path, target.display()),
    };
    tables.into_iter().map(one).collect()
}

#[test]
fn tables_of_every_signer() {
    for format in [
        Format::Opendkim,
        Format::Rspamd,
        Format::Exim,
        Format::DkimpyMilter,
        Format::Kumomta,
        Format::Stalwart,
        Format::Maddy,
    ] {
        insta::assert_snapshot!(format!("{format:?}").to_lowercase(), shown(format));
    }
}

#[test]
fn what_a_signer_cannot_do_is_told() {
    let domain = DomainName::parse("contoso.com").unwrap();
    let own = signature("contoso.com", "s", Algorithm::Ed25519, "x");
    let provider = signature("contoso.onmail.example", "s", Algorithm::Rsa, "x");
    assert!(Format::Opendkim.encoding(&domain, &own).unwrap_err().contains("RSA"));
    assert!(Format::Maddy.encoding(&domain, &provider).unwrap_err().contains("own domain"));
    assert_eq!(Format::Rspamd.encoding(&domain, &own), Ok(Encoding::Seed));
    assert_eq!(Format::Exim.encoding(&domain, &provider), Ok(Encoding::Pem));
}
