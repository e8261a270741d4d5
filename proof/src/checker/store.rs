//! Keyrings and record sets as small numbers: each distinct one is kept once, with all times relative to the present.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use dkim_operator::model::keyring::KeyInfo;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::world::{STEP_BACK, TOP, WATCHED};
use crate::keys::{self, KeyId};

/// The present, always.
pub const PRESENT: i64 = 2_000_000_000;
/// Seconds of a tick.
pub const TICK: i64 = 60;
/// Ticks after which the past is past: longer than any span that a decision looks back.
pub const LONG_AGO: i64 = 7;

/// When the keys were made that fell into the wrong hands, and when that was known, in ticks from the present: what
/// matters of both is their order alone, so they stand still, far from every other time.
pub const STOLEN: i64 = 1000;
/// See [`STOLEN`].
pub const KNOWN_STOLEN: i64 = 500;

/// The moment so many ticks ago.
#[must_use]
pub fn ago(ticks: i64) -> Timestamp {
    Timestamp::from_second(PRESENT - ticks * TICK).expect("near the present")
}

/// The moment so many ticks from the present.
#[must_use]
pub fn at(ticks: i8) -> Timestamp {
    Timestamp::from_second(PRESENT + i64::from(ticks) * TICK).expect("near the present")
}

/// Things by number, and the number of each by its serialised form.
type Numbered<T> = (Vec<Arc<T>>, HashMap<String, u32>);

/// Things of one kind, numbered.
pub struct Store<T> {
    inner: RwLock<Numbered<T>>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self { inner: RwLock::new((Vec::new(), HashMap::new())) }
    }
}

impl<T: Serialize> Store<T> {
    /// The thing's number.
    pub fn put(&self, thing: T) -> u32 {
        let text = serde_json::to_string(&thing).expect("it serialises");
        if let Some(id) = self.inner.read().expect("no thread failed").1.get(&text) {
            return *id;
        }
        let mut inner = self.inner.write().expect("no thread failed");
        if let Some(id) = inner.1.get(&text) {
            return *id;
        }
        let id = u32::try_from(inner.0.len()).expect("few enough");
        inner.0.push(Arc::new(thing));
        inner.1.insert(text, id);
        id
    }

    /// The thing.
    pub fn get(&self, id: u32) -> Arc<T> {
        self.inner.read().expect("no thread failed").0[id as usize].clone()
    }
}

/// What matters of times in a world.
#[derive(Debug, Clone, Copy)]
pub struct Chronology {
    /// Whether a key was made before or after another, or before names were left: so where names change.
    pub order: bool,
    /// No clock is ever set back.
    ///
    /// Then no moment on record lies ahead of the present. Those that are kept for that alone ([`Vault::high_water`]) are as
    /// good as forgotten, and of a moment until or from which something holds, only whether it is past is ever asked: in
    /// `model` it is compared with the present, and the greater one is taken of two. So states that differ in no more than
    /// such moments of the past go on alike, and are one.
    ///
    /// [`Vault::high_water`]: dkim_operator::model::vault::Vault::high_water
    pub steady: bool,
    /// Ticks of the grace, after which it is over however long ago it began.
    pub grace: i64,
    /// Ticks from one rotation to the next, after which one is due however long ago the last was.
    pub interval: i64,
}

/// Moments until or from which something holds.
const LIMITS: [&str; 4] = ["settled", "trustedFrom", "until", "keepUntil"];

/// Times on which nothing hangs, because the keyring's latest moment is kept beside them. They are held at
/// [`LONG_AGO`], so that two worlds which differ in nothing else are one.
const IDLE: [&str; 4] = ["created", "seen", "modeSince", "signedSince"];

/// The same thing seen `ticks` later, with every time moved and nothing longer ago than matters.
///
/// It works on the serialised form, so that a field which is new to keyring or record set needs no line here.
pub fn age<T: Serialize + DeserializeOwned>(thing: &T, ticks: i8, chronology: Chronology) -> T {
    let Chronology { order, steady, grace, interval } = chronology;
    let move_to = |value: &mut Value, ago: i64| {
        let Some(time) = value.as_str().and_then(|text| text.parse::<Timestamp>().ok()) else { return };
        if time <= self::ago(KNOWN_STOLEN) {
            return;
        }
        let moved = time - SignedDuration::from_secs(i64::from(ticks) * TICK);
        let floor = Timestamp::from_second(PRESENT - LONG_AGO * TICK).expect("near");
        *value = if moved.as_second() <= PRESENT - ago * TICK { floor } else { moved }.to_string().into();
    };
    walk(thing, &|value| {
        let Value::Object(fields) = value else { return };
        let of_phase = fields.contains_key("name");
        for (name, field) in fields.iter_mut() {
            let ago = match name.as_str() {
                "created" if order => i64::from(STEP_BACK) + 2,
                name if IDLE.contains(&name) => -LONG_AGO,
                "latest" | "announced" if steady => -LONG_AGO,
                name if steady && LIMITS.contains(&name) => 0,
                "since" if of_phase => -LONG_AGO,
                // A second lane compares its last rotation with that of the first.
                "last" if steady && order => interval,
                "last" => LONG_AGO,
                "since" if steady => grace,
                "since" => i64::from(STEP_BACK) + 2,
                _ => i64::from(STEP_BACK),
            };
            move_to(field, ago);
        }
    })
}

/// The same thing with every serial lowered by `by` (raised where that is negative), and no count of past rotations.
pub fn renumber<T: Serialize + DeserializeOwned>(thing: &T, by: i16) -> T {
    walk(thing, &|value| {
        let Value::Object(fields) = value else { return };
        if let Some(last) = fields.get_mut("lastSerial") {
            *last = (last.as_i64().unwrap_or(0) - i64::from(by)).max(0).into();
        }
        for serials in fields.get_mut("answered").and_then(Value::as_object_mut).into_iter().flatten() {
            for serial in serials.1.as_array_mut().into_iter().flatten() {
                let left = serial.as_i64().unwrap_or(0) - i64::from(by);
                // Of a key that is long gone nothing is asked any more.
                *serial = if left > i64::from(TOP - WATCHED) { left } else { 0 }.into();
            }
        }
        if let Some(count) = fields.get_mut("count") {
            *count = 0.into();
        }
        if fields.contains_key("fingerprint") && fields.contains_key("public") {
            let key: KeyInfo = serde_json::from_value(Value::Object(fields.clone())).expect("a key");
            let id = keys::identify(&key.public);
            let serial = key.serial.saturating_add_signed(-i64::from(by));
            let key = if id.tag == keys::BROUGHT {
                KeyInfo { serial, ..key }
            } else {
                keys::make(lower(id, by), key.created)
            };
            *value = serde_json::to_value(key).expect("it serialises");
        } else if let (Some(Value::String(text)), Some(_)) = (fields.get("value"), fields.get("serial")) {
            let text = keys::in_record(text).map(|id| keys::record(lower(id, by)));
            if let Some(text) = text {
                fields.insert("value".into(), text.into());
            }
            lower_serial(fields, by);
        } else if fields.contains_key("settled") && fields.contains_key("link") {
            // Of a key that is seen at its next name; 0 stands for none.
            lower_serial(fields, by);
        }
    })
}

fn lower_serial(fields: &mut serde_json::Map<String, Value>, by: i16) {
    if let Some(serial) = fields["serial"].as_i64().filter(|serial| *serial > 0) {
        fields.insert("serial".into(), (serial - i64::from(by)).max(0).into());
    }
}

/// A key under its new number.
#[must_use]
pub fn lower(id: KeyId, by: i16) -> KeyId {
    if id.tag == keys::BROUGHT { id } else { KeyId { serial: id.serial.saturating_add_signed(-by), ..id } }
}

/// The same thing, every key and record in it being as old as the keys that fell into the wrong hands.
pub fn steal<T: Serialize + DeserializeOwned>(thing: &T) -> T {
    walk(thing, &|value| {
        let Value::Object(fields) = value else { return };
        for name in ["created", "signedSince"] {
            if let Some(field) = fields.get_mut(name).filter(|field| !field.is_null()) {
                *field = ago(STOLEN).to_string().into();
            }
        }
    })
}

fn walk<T: Serialize + DeserializeOwned>(thing: &T, change: &dyn Fn(&mut Value)) -> T {
    fn visit(value: &mut Value, change: &dyn Fn(&mut Value)) {
        change(value);
        match value {
            Value::Array(items) => items.iter_mut().for_each(|v| visit(v, change)),
            Value::Object(fields) => fields.values_mut().for_each(|v| visit(v, change)),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(thing).expect("it serialises");
    visit(&mut value, change);
    serde_json::from_value(value).expect("the same type")
}
