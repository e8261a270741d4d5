//! Any bytes from a peer, cut anywhere: no panic, progress with every packet, and the same packets as in one piece.

#![no_main]

use dkim_operator_fuzz::milter::wire::{Decoder, Packet, ProtocolError};
use libfuzzer_sys::fuzz_target;

/// What a stream says; neighbouring pieces of body are one.
fn told(chunks: &[&[u8]]) -> (Vec<String>, Option<ProtocolError>) {
    let (mut decoder, mut buffer, mut told) = (Decoder::default(), Vec::new(), Vec::new());
    let mut body = Vec::new();
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        let mut at = 0;
        let mut idle = 0;
        loop {
            match decoder.next(&buffer[at..]) {
                Ok(Some((packet, used))) => {
                    idle = if used == 0 { idle + 1 } else { 0 };
                    assert!(idle < 3, "no progress");
                    assert!(at + used <= buffer.len());
                    at += used;
                    match packet {
                        Packet::Body { piece, last } => {
                            body.extend_from_slice(piece);
                            if last {
                                told.push(format!("body {:?}", std::mem::take(&mut body)));
                            }
                        }
                        Packet::EndOfMessage => told.push(format!("end {:?}", std::mem::take(&mut body))),
                        Packet::Macros(macros) => told.push(format!("{:?}", macros.pairs().collect::<Vec<_>>())),
                        Packet::Negotiate(offer) => told.push(format!("{:?}", offer.agree())),
                        other => told.push(format!("{other:?}")),
                    }
                }
                Ok(None) => break,
                Err(error) => return (told, Some(error)),
            }
        }
        buffer.drain(..at);
    }
    told.push(format!("open {body:?} {}", buffer.len()));
    (told, None)
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (first, second, bytes) = input;
    let (a, b) = (usize::from(first).min(bytes.len()), usize::from(second).min(bytes.len()));
    let (a, b) = (a.min(b), a.max(b));
    assert_eq!(told(&[bytes]), told(&[&bytes[..a], &bytes[a..b], &bytes[b..]]));
});
