//! On whose behalf mail is signed: the `i=` tag.

use crate::model::name::DomainName;

/// An `i=` tag in its usual form, for signatures of a domain: an address, or a domain with an @ before it, at or below that
/// domain (RFC 6376 §3.5). Its local part holds nothing that would have to be quoted.
///
/// # Errors
/// What is wrong with it.
pub fn identity(text: &str, signing: &str) -> Result<String, String> {
    let (local, domain) = text.split_once('@').ok_or_else(|| format!("{text} has no @"))?;
    if let Some(odd) = local.chars().find(|c| !c.is_ascii_alphanumeric() && !"._+-".contains(*c)) {
        return Err(format!(
            "{odd:?} cannot stand before the @; letters, digits, dot, dash, plus and underline can"
        ));
    }
    let domain = DomainName::parse(domain).map_err(|fault| fault.to_string())?;
    let below =
        domain.as_str().strip_suffix(signing).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if !below {
        return Err(format!(
            "{domain} is neither {signing} nor below it, so that receivers would not take the signature"
        ));
    }
    Ok(format!("{local}@{domain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_at_the_domain_or_below() {
        for (text, normal) in [
            ("@contoso.com", "@contoso.com"),
            ("News+1@Lists.Contoso.COM.", "News+1@lists.contoso.com"),
            ("@bücher.contoso.com", "@xn--bcher-kva.contoso.com"),
        ] {
            assert_eq!(identity(text, "contoso.com").as_deref(), Ok(normal));
        }
        for (text, says) in [
            ("contoso.com", "has no @"),
            ("joe@", "domain"),
            ("joe@x@contoso.com", ""),
            ("joe;d@contoso.com", "';' cannot stand"),
            ("joe@notcontoso.com", "is neither"),
            ("joe@com", ""),
            ("joe@contoso.com.example", "is neither"),
        ] {
            let fault = identity(text, "contoso.com").unwrap_err();
            assert!(fault.contains(says), "{text}: {fault}");
        }
    }
}
