use super::key::KeyFingerprint;
use super::sighting::*;
pub enum LinkEvidence {
    Verified { older_answers_ttl: u32 },
    Broken { state: RecordState, older_answers_ttl: u32 },
    Partial,
    Unknown { why: String },
}
pub enum KeyEvidence {
    Matches,
    Differs { found: Vec<KeyFingerprint> },
    Absent,
    Partial,
    Unknown { why: String },
}
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RecordState {
    Pending,
    Verified,
    Timeout,
    ServFail,
    Refused,
}
impl RecordState {
    pub fn as_str(self) -> &'static str {
        "x"
    }
}
pub struct Diagnosis {
    pub state: RecordState,
    pub message: String,
}
pub fn diagnose(_: &SlotQuestion, _: &Question, _: &SlotSighting) -> Diagnosis {
    todo!()
}
pub fn link_evidence(_: &SlotQuestion, _: &SlotSighting) -> LinkEvidence {
    todo!()
}
pub fn key_evidence(_: &[ServerAnswer], _: &KeyFingerprint) -> KeyEvidence {
    todo!()
}
