//! A packet, read piece by piece.

/// Most bytes of a name (RFC 1035 §2.3.4).
pub const MAX_NAME: usize = 255;

/// A name without compression, in lower case.
#[derive(Clone, Copy)]
pub struct Name {
    bytes: [u8; MAX_NAME],
    length: usize,
    labels: usize,
}

impl Name {
    /// On the wire, with the root.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// How many labels, without the root.
    #[must_use]
    pub fn labels(&self) -> usize {
        self.labels
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Name({})", String::from_utf8_lossy(self.wire()).escape_debug())
    }
}

/// Reads a packet from its front to its end.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

/// A record, its data not looked at.
#[derive(Debug, Clone, Copy)]
pub struct RawRecord<'a> {
    /// Its owner is the root.
    pub at_root: bool,
    /// Its type.
    pub kind: u16,
    /// Its class.
    pub class: u16,
    /// Its TTL.
    pub ttl: [u8; 4],
    /// Its data.
    pub data: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins at a place in a packet.
    #[must_use]
    pub fn at(packet: &'a [u8], at: usize) -> Self {
        Self { packet, at }
    }

    /// Where it has come to.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.at == self.packet.len()
    }

    /// The next bytes, if there are so many.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let bytes = self.packet.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// A name without compression, in lower case: what stands before a question's name cannot be pointed to.
    pub fn name(&mut self) -> Option<Name> {
        let (start, mut labels) = (self.at, 0);
        loop {
            let [length] = *self.take(1)?.first_chunk()?;
            if length == 0 {
                break;
            }
            if length > 63 {
                return None;
            }
            self.take(usize::from(length))?;
            labels += 1;
        }
        let wire = self.packet.get(start..self.at)?;
        let mut bytes = [0; MAX_NAME];
        let lower = bytes.get_mut(..wire.len())?;
        lower.copy_from_slice(wire);
        // The length of a label is never a letter.
        lower.make_ascii_lowercase();
        Some(Name { bytes, length: wire.len(), labels })
    }

    /// The first question.
    pub(super) fn question(&mut self) -> Option<Option<(Name, u16, u16)>> {
        Some(Some((self.name()?, self.u16()?, self.u16()?)))
    }

    /// Steps over a further question.
    pub(super) fn skip_question(&mut self) -> Option<Option<(Name, u16, u16)>> {
        self.skip_name()?;
        self.take(4)?;
        Some(None)
    }

    /// Steps over a name that may be compressed.
    fn skip_name(&mut self) -> Option<()> {
        let start = self.at;
        loop {
            let [length] = *self.take(1)?.first_chunk()?;
            match length {
                0 => break,
                1..=63 => _ = self.take(usize::from(length))?,
                // A pointer ends a name.
                192.. => {
                    self.take(1)?;
                    break;
                }
                _ => return None,
            }
        }
        (self.at - start <= MAX_NAME).then_some(())
    }

    /// A whole record.
    pub fn record(&mut self) -> Option<RawRecord<'a>> {
        let start = self.at;
        self.skip_name()?;
        let at_root = self.packet.get(start) == Some(&0);
        let (kind, class) = (self.u16()?, self.u16()?);
        let ttl = *self.take(4)?.first_chunk()?;
        let length = usize::from(self.u16()?);
        Some(RawRecord { at_root, kind, class, ttl, data: self.take(length)? })
    }
}
