//! How messages of a DkimDomain are signed.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::yes;
use crate::api::{Canonicalization, HumanDuration};

/// How messages are signed.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SignatureRequest {
    /// Canonicalisation of the header: relaxed (default) or simple.
    #[serde(default)]
    pub header_canonicalization: Canonicalization,
    /// Canonicalisation of the body: relaxed (default) or simple.
    #[serde(default)]
    pub body_canonicalization: Canonicalization,
    /// Write the time of signing, t=.
    #[serde(default = "yes")]
    pub timestamp: bool,
    /// Let signatures end this long after signing, x=; without it they do not end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!self.matches('^([0-9]+(h|m|s|ms))+$') || duration(self) >= duration('1h')").message("signature.expiration must be 1h or more: mail is under way for days"))]
    pub expiration: Option<HumanDuration>,
    /// On whose behalf mail is signed, i=: an address without display name at the domain or below it, or such a domain with
    /// an @ before it. Written while mail is signed as the domain itself; left out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9._+-]*@[^@]+$')").message("signature.identity must be an address or @ and a domain, such as news@contoso.com or @contoso.com"))]
    pub identity: Option<String>,
    /// Name each signed header once more than it occurs, so that nobody can add another one on the way.
    #[serde(default)]
    pub oversign: bool,
    /// Headers to sign besides From, To, Message-ID, Subject, MIME-Version and Content-Type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 76)))]
    #[x_kube(validation = Rule::new("self.all(h, h.matches('^[!-9;-~]+$'))").message("each of signature.extraHeaders must be the name of a header field without colon, such as List-Unsubscribe"))]
    #[x_kube(validation = Rule::new("self.all(h, h.lowerAscii() != 'dkim-signature')").message("signature.extraHeaders must not name DKIM-Signature: a signature cannot cover itself"))]
    pub extra_headers: Vec<String>,
}

impl Default for SignatureRequest {
    fn default() -> Self {
        Self {
            header_canonicalization: Canonicalization::Relaxed,
            body_canonicalization: Canonicalization::Relaxed,
            timestamp: true,
            expiration: None,
            identity: None,
            oversign: false,
            extra_headers: Vec::new(),
        }
    }
}
