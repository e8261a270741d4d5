//! No private key stays in memory longer than it is needed.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use zeroize::Zeroize;

/// Wipes what is in a Secret that is no longer needed.
pub fn wipe(secret: &mut Secret) {
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
    }
}
