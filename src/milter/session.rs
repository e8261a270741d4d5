//! What one connection says and is answered: a pure state machine over packets.

use std::fmt::Display;
use std::sync::{Arc, Once};
use std::time::Instant;

use jiff::Timestamp;

use super::counters::{Counters, Failure, Skip};
use super::keys::{Keys, Unavailable};
use super::policy::{OnFailure, OnUnsignable, Policy};
use super::sendmail;
use super::wire::{Agreed, MacroStage, Packet, ProtocolError, Reply};
use crate::api::Canonicalization;
use crate::signing::{DomainKeys, FIELD_NAME, Header, Made, MessageSigner};

/// Longest queue id that is kept for the log.
const MAX_QUEUE_ID: usize = 64;

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    /// Whose mail is signed.
    pub policy: Policy,
    /// The keys.
    pub keys: Arc<Keys>,
    /// What is counted.
    pub counters: Counters,
    /// The clock, for `t=` and `x=`.
    pub now: fn() -> Timestamp,
}

/// How a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// With the next packet.
    Go,
    /// With the next packet, and a message is over: what is to be written should leave now.
    MessageOver,
    /// Not at all.
    Close,
}

/// One connection of an MTA.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    agreed: Option<Agreed>,
    /// The client of the MTA, or a macro of the connection, makes mail ours.
    client: bool,
    client_marked: bool,
    /// The MTA is Sendmail, which changes headers that were signed.
    sendmail: bool,
    /// A macro of this message does.
    message_marked: bool,
    queue_id: String,
    message: Option<Message>,
}

/// How far a message is.
#[derive(Debug)]
enum Message {
    /// Fields of the header come in.
    Header(Header),
    /// The body passes by.
    Body(Box<MessageSigner>),
    /// It is left as it is.
    Skipped(Skip),
    /// It is ours, but its author cannot be told.
    Unsignable(String),
    /// It is ours and cannot be signed.
    Failed(Failure),
}

impl Session {
    /// Before the negotiation.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            agreed: None,
            client: false,
            client_marked: false,
            sendmail: false,
            message_marked: false,
            queue_id: String::new(),
            message: None,
        }
    }

    /// Whether no message is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.message.is_none()
    }

    /// Whether the MTA has said what it can do.
    #[must_use]
    pub fn is_negotiated(&self) -> bool {
        self.agreed.is_some()
    }

    /// Takes one packet; replies are appended to `out`.
    ///
    /// # Errors
    /// [`ProtocolError`]: the connection is of no more use.
    pub fn take(&mut self, packet: Packet<'_>, out: &mut Vec<u8>) -> Result<Flow, ProtocolError> {
        let mut reply = Reply(out);
        let agreed = match (&packet, self.agreed) {
            (Packet::Negotiate(offer), None) => {
                let agreed = offer.agree()?;
                reply.negotiate(&agreed, &self.wanted_macros());
                self.agreed = Some(agreed);
                return Ok(Flow::Go);
            }
            (Packet::Quit, _) => return Ok(Flow::Close),
            (Packet::Negotiate(_), Some(_)) => return Err(ProtocolError::Order("a negotiation")),
            (_, None) => return Err(ProtocolError::Order("a command")),
            (_, Some(agreed)) => agreed,
        };
        let mut proceed = |command| {
            if agreed.waits(command) {
                reply.proceed();
            }
        };
        match packet {
            Packet::Negotiate(_) | Packet::Quit => {}
            Packet::QuitNewConnection => {
                self.forget_message();
                (self.client, self.client_marked, self.sendmail) = (false, false, false);
                self.agreed = Some(agreed);
            }
            Packet::Abort => self.forget_message(),
            Packet::Macros(macros) => self.note(macros.stage, macros.pairs()),
            Packet::Connect { host, family, address } => {
                self.client = self.shared.policy.trusts(host, family, address);
                proceed(b'C');
            }
            Packet::Helo => proceed(b'H'),
            Packet::Mail => {
                self.message = Some(self.begin());
                proceed(b'M');
            }
            Packet::Rcpt => proceed(b'R'),
            Packet::Data => proceed(b'T'),
            Packet::Unknown => proceed(b'U'),
            Packet::Header { name, value } => {
                self.field(agreed, name, value);
                proceed(b'L');
            }
            Packet::EndOfHeader => {
                let skipped = matches!(self.end_header(), Message::Skipped(_));
                match agreed.waits(b'N') {
                    true if skipped => {
                        self.end_message(agreed, &mut reply, true);
                    }
                    true => reply.proceed(),
                    false => {}
                }
            }
            Packet::Body { piece, last } => {
                let wanted = match self.end_header() {
                    Message::Body(signer) => {
                        signer.body(piece);
                        true
                    }
                    _ => false,
                };
                if last && agreed.waits_for_body() {
                    if wanted || !agreed.may_skip() { reply.proceed() } else { reply.skip() }
                }
            }
            Packet::EndOfMessage => {
                self.end_header();
                self.end_message(agreed, &mut reply, false);
                return Ok(Flow::MessageOver);
            }
        }
        Ok(Flow::Go)
    }

    /// The macros that decide, and the queue id for the log. What we ask for replaces what the MTA is configured to
    /// send, so nobody has to configure that.
    fn wanted_macros(&self) -> [(MacroStage, String); 4] {
        let marks: String =
            self.shared.policy.macros.iter().map(|m| format!(" {}", braced(m.name()))).collect();
        [
            (MacroStage::Connect, format!("j v{marks}")),
            (MacroStage::Mail, format!("i {{auth_authen}}{marks}")),
            (MacroStage::EndOfMessage, "i".to_owned()),
            (MacroStage::EndOfHeader, "i".to_owned()),
        ]
    }

    fn note<'a>(&mut self, stage: u8, pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
        if stage == b'M' {
            self.message_marked = false;
            self.queue_id.clear();
        }
        for (name, value) in pairs {
            if name == b"i" {
                let text = String::from_utf8_lossy(value);
                self.queue_id = text.chars().filter(char::is_ascii_alphanumeric).take(MAX_QUEUE_ID).collect();
            } else if name == b"v" {
                // Sendmail says its version alone; Postfix, whatever it is called, its name before.
                self.sendmail = value.first().is_some_and(u8::is_ascii_digit);
            } else if self.shared.policy.marks(name, value) {
                match stage {
                    b'C' | b'H' => self.client_marked = true,
                    _ => self.message_marked = true,
                }
            }
        }
    }

    fn forget_message(&mut self) {
        self.message = None;
        self.message_marked = false;
        self.queue_id.clear();
    }

    fn begin(&self) -> Message {
        if self.client || self.client_marked || self.message_marked {
            Message::Header(Header::new())
        } else {
            Message::Skipped(Skip::ClientNotTrusted)
        }
    }

    fn field(&mut self, agreed: Agreed, name: &[u8], value: &[u8]) {
        let begin = self.begin();
        let message = self.message.get_or_insert(begin);
        let Message::Header(header) = message else { return };
        let pushed = if agreed.leading_space() || value.is_empty() {
            header.push(name, value)
        } else {
            // The MTA took away one space, as nearly every field has it.
            header.push(name, &[b" ", value].concat())
        };
        if let Err(error) = pushed {
            *message = Message::Unsignable(error.to_string());
        }
    }

    /// Decides about the message, once its header is complete.
    fn end_header(&mut self) -> &mut Message {
        let begin = self.begin();
        let message = self.message.get_or_insert(begin);
        if let Message::Header(header) = message {
            *message = decide(&self.shared.keys, std::mem::take(header), self.sendmail);
        }
        message
    }

    /// Answers the end of a message; `early` where the MTA may spare the body.
    fn end_message(&mut self, agreed: Agreed, reply: &mut Reply<'_>, early: bool) {
        let policy = &self.shared.policy;
        let counters = &self.shared.counters;
        let id = &self.queue_id;
        let failed = |failure: Failure, reply: &mut Reply<'_>| {
            counters.failed(failure);
            tracing::warn!(queue_id = %id, reason = failure.label(), action = ?policy.on_failure,
                "a message of ours is not signed: {}", failure.remedy());
            match policy.on_failure {
                OnFailure::Tempfail => reply.smtp(
                    "451 4.7.0 The message cannot be signed (DKIM) at the moment; please try again later",
                ),
                OnFailure::Accept => reply.proceed(),
            }
        };
        match self.message.take() {
            None | Some(Message::Header(_)) => reply.proceed(),
            Some(Message::Skipped(skip)) => {
                counters.skipped(skip);
                tracing::debug!(queue_id = %id, reason = skip.label(), "left as it is");
                if early { reply.accept() } else { reply.proceed() }
            }
            Some(Message::Unsignable(why)) => {
                counters.skipped(Skip::Unsignable);
                tracing::warn!(queue_id = %id, action = ?policy.on_unsignable, "a message is not signed: {why}");
                match policy.on_unsignable {
                    OnUnsignable::Accept => reply.proceed(),
                    OnUnsignable::Reject => reply.smtp(&refusal(&why)),
                }
            }
            Some(Message::Failed(failure)) => failed(failure, reply),
            Some(Message::Body(signer)) => match sign(*signer, &self.shared) {
                Ok(made) => {
                    let new = made.iter().filter_map(Made::field);
                    // Each goes on top of the one before.
                    for field in new.rev() {
                        let value = field.value().replace("\r\n", "\n");
                        let bare = value.strip_prefix(' ').unwrap_or(&value);
                        reply.insert_on_top(FIELD_NAME, if agreed.leading_space() { &value } else { bare });
                    }
                    reply.proceed();
                    tracing::debug!(queue_id = %id, signatures = made.len(), "signed");
                }
                Err(failure) => failed(failure, reply),
            },
        }
        self.forget_message();
    }
}

/// Names of more than one letter are in braces.
fn braced(name: &str) -> String {
    if name.len() == 1 { name.to_owned() } else { format!("{{{name}}}") }
}

/// An SMTP reply is one line of ASCII, and not too long a one.
fn refusal(why: &impl Display) -> String {
    let text = format!("550 5.6.0 The message cannot be signed (DKIM): {why}");
    text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).take(400).collect()
}

fn decide(keys: &Keys, mut header: Header, sendmail: bool) -> Message {
    let authors = match header.author_domains() {
        Ok(authors) => authors,
        Err(error) => return Message::Unsignable(error.to_string()),
    };
    let store = match keys.current() {
        Ok(store) => store,
        Err(Unavailable::NotLoaded) => return Message::Failed(Failure::NotLoaded),
        Err(Unavailable::Stale) => return Message::Failed(Failure::Stale),
    };
    match store.for_authors(&authors) {
        Some(keys) if keys.signers().is_empty() => Message::Failed(Failure::NoKey),
        Some(keys) => {
            if sendmail {
                tell_if_strict(keys);
                if let Err(why) = sendmail::foresee(&mut header) {
                    return Message::Unsignable(why.to_owned());
                }
            }
            Message::Body(Box::new(MessageSigner::new(Arc::clone(keys), header)))
        }
        None if store.problems().iter().any(|p| p.domain.as_ref().is_some_and(|d| authors.contains(d))) => {
            Message::Failed(Failure::Unreadable)
        }
        None => Message::Skipped(Skip::DomainNotOurs),
    }
}

/// Tells once that headers are not signed as is asked for.
fn tell_if_strict(keys: &DomainKeys) {
    static TOLD: Once = Once::new();
    let is_strict = |mode| mode == Canonicalization::Simple;
    if keys.signers().iter().any(|signer| is_strict(signer.config().header_canonicalization)) {
        TOLD.call_once(|| {
            tracing::warn!(
                domain = %keys.domain(),
                "headers are to be signed as they are (simple canonicalization), but Sendmail folds them anew afterwards: \
                 they are signed in relaxed canonicalization, this domain's and all others'"
            );
        });
    }
}

/// Signs with the keys of this moment: a message that took long to come in is not signed with a key of the past.
fn sign(signer: MessageSigner, shared: &Shared) -> Result<Vec<Made>, Failure> {
    let begin = Instant::now();
    let signer = match shared.keys.current().ok().and_then(|store| store.get(signer.domain()).cloned()) {
        Some(keys) if keys.signers().is_empty() => return Err(Failure::NoKey),
        Some(keys) => signer.with_keys(&keys),
        None => signer,
    };
    let made = signer.finish((shared.now)()).map_err(|_| Failure::Crypto)?;
    if made.iter().all(|made| made.field().is_none()) {
        shared.counters.skipped(Skip::AlreadySigned);
    } else {
        shared.counters.signed(begin.elapsed().as_secs_f64());
    }
    Ok(made)
}

#[cfg(test)]
mod tests;
