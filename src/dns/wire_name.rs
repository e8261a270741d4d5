//! Names as they are on the wire: lower case, label by label, with the root at the end (RFC 1035 §3.1).

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::model::name::DnsName;

/// An owner name. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireName(Arc<[u8]>);

impl WireName {
    /// The wire form of one label and a name after it.
    #[must_use]
    pub fn below(label: &str, name: &WireName) -> Self {
        let length = u8::try_from(label.len()).unwrap_or(0);
        Self([&[length], label.as_bytes(), &name.0].concat().into())
    }

    /// A name from its wire form in lower case.
    #[must_use]
    pub fn from_wire(wire: &[u8]) -> Self {
        Self(wire.into())
    }

    /// The presentation form without final dot; for names made of plain labels, as all of ours are.
    #[must_use]
    pub fn text(&self) -> String {
        let labels: Vec<_> = labels(&self.0).map(String::from_utf8_lossy).collect();
        labels.join(".")
    }
}

impl From<&DnsName> for WireName {
    fn from(name: &DnsName) -> Self {
        let mut wire = Vec::with_capacity(name.as_str().len() + 2);
        for label in name.as_str().split('.') {
            // A label of a DnsName has at most 63 bytes.
            wire.push(u8::try_from(label.len()).unwrap_or(0));
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        Self(wire.into())
    }
}

impl Deref for WireName {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for WireName {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for WireName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for WireName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WireName({self})")
    }
}

/// The labels of a name, without the root.
pub fn labels(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    suffixes(name).filter_map(|at| at.get(1..=usize::from(*at.first()?)))
}

/// The name itself and each name above it, the root left out.
pub fn suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |at| parent(at)).take_while(|at| at.len() > 1)
}

/// The name one label up; `None` at the root.
#[must_use]
pub fn parent(name: &[u8]) -> Option<&[u8]> {
    let length = usize::from(*name.first()?);
    if length == 0 { None } else { name.get(length + 1..) }
}

/// Whether a name lies strictly below another.
#[must_use]
pub fn is_below(name: &[u8], zone: &[u8]) -> bool {
    suffixes(name).skip(1).any(|at| at == zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> WireName {
        WireName::from(&DnsName::new(text).unwrap())
    }

    #[test]
    fn forms_go_into_each_other() {
        let wire = name("A.bc.example");
        assert_eq!(&*wire, b"\x01a\x02bc\x07example\0");
        assert_eq!(wire.text(), "a.bc.example");
        assert_eq!(WireName::below("a", &name("bc.example")), wire);
    }

    #[test]
    fn names_have_names_above_them() {
        let wire = name("a.bc.example");
        let all: Vec<&[u8]> = suffixes(&wire).collect();
        assert_eq!(all, [&*wire, b"\x02bc\x07example\0", b"\x07example\0"]);
        assert!(is_below(&wire, &name("example")) && is_below(&wire, &name("bc.example")));
        assert!(!is_below(&wire, &wire) && !is_below(&wire, &name("c.example")));
        assert_eq!(parent(b"\0"), None);
        assert_eq!(suffixes(b"\0").count(), 0);
    }
}
