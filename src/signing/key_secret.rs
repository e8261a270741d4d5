//! A key Secret as it was read.

use std::ops::Deref;

use k8s_openapi::api::core::v1::Secret;

use crate::wipe::wipe;

/// A Secret whose private keys are wiped when it goes: read or not, and wherever it was on its way when what it came by broke.
pub struct KeySecret(Secret);

impl From<Secret> for KeySecret {
    fn from(secret: Secret) -> Self {
        Self(secret)
    }
}

impl Deref for KeySecret {
    type Target = Secret;

    fn deref(&self) -> &Secret {
        &self.0
    }
}

impl Drop for KeySecret {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_wiped_when_it_goes() {
        assert!(std::mem::needs_drop::<KeySecret>());
    }
}
