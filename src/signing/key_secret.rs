//! A key Secret as it was read.

use std::collections::BTreeMap;
use std::ops::Deref;

use k8s_openapi::api::core::v1::Secret;
use zeroize::Zeroize;

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

fn wipe(secret: &mut Secret) {
    for bytes in secret.data.iter_mut().flat_map(BTreeMap::values_mut) {
        bytes.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn nothing_is_left_of_its_keys() {
        let data = BTreeMap::from([("selector1.pem".to_owned(), ByteString(b"key".to_vec()))]);
        let mut secret = Secret { data: Some(data), ..Secret::default() };
        wipe(&mut secret);
        assert_eq!(secret.data.unwrap().values().next().unwrap().0, b"");
        assert!(std::mem::needs_drop::<KeySecret>());
    }
}
