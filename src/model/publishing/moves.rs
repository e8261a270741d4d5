//! When DNS answers from the new place, so that the former one may be left after the drain.

use super::plan::{Place, Wanted};
use super::{Mark, method};
use crate::api::PublishMethod;
use crate::model::name::DnsName;

/// What else to look at where both places are objects.
const ONE_EXTERNAL_DNS: &str =
    ", or if one external-dns publishes both, see that it selects the new object, too";

/// The same where external-dns is to take over what updates have brought into its zone.
const ONE_ZONE: &str = ", or if both are one zone, give external-dns this name: put its ownership record there, by hand (docs/publishing.md, Changing the method)";

/// What one of the servers that the zone is delegated to said of one record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The server, as it is shown.
    pub server: String,
    /// The texts at the record's name; `None` where nothing was heard that proves anything.
    pub texts: Option<Vec<String>>,
    /// The texts at the mark's name; `None` where nothing was heard that proves anything.
    pub marks: Option<Vec<String>>,
    /// For how many seconds resolvers remember that the record is not there, where it is not.
    pub negative_ttl: Option<u32>,
}

/// Whether DNS answers for `name` from `present`, so that the place `former` may be left. Where records are marked, the new place's
/// mark is the proof; the former one's is none, nor does it speak against that: an external-dns that publishes the objects of both
/// puts both marks at one name.
///
/// # Errors
/// Words that say why not, or why that cannot be told.
pub fn has_moved(
    former: &Place,
    present: &Place,
    name: &DnsName,
    wanted: &Wanted,
    answers: &[Answer],
) -> Result<(), String> {
    if answers.is_empty() {
        return Err(format!("the servers that {name} is delegated to cannot be found"));
    }
    let marked =
        |place: &Place| matches!(method(&place.zone), PublishMethod::Rfc2136 | PublishMethod::DnsEndpoint);
    if !marked(present) && !marked(former) && method(&former.zone) == PublishMethod::Embedded {
        return Err(
            "records published by hand cannot be told from those of the embedded server, which goes on serving them"
                .to_owned(),
        );
    }
    for Answer { server, texts, marks, .. } in answers {
        let (Some(texts), Some(marks)) = (texts, marks) else {
            return Err(format!("{server} gives no clear answer for {name}"));
        };
        if texts.as_slice() != [wanted.text.as_str()] {
            return Err(format!("{server} does not have {name} as it is at the new place"));
        }
        let places: Vec<String> =
            marks.iter().filter_map(|text| Mark::parse(text)).map(|mark| mark.place).collect();
        let moved = match marked(present) {
            true => places.contains(&present.id),
            false => !places.contains(&former.id),
        };
        if !moved {
            let one = match (method(&former.zone), method(&present.zone)) {
                (PublishMethod::DnsEndpoint, PublishMethod::DnsEndpoint) => ONE_EXTERNAL_DNS,
                (PublishMethod::Rfc2136, PublishMethod::DnsEndpoint) => ONE_ZONE,
                _ => "",
            };
            return Err(format!(
                "{server} still answers for {name} from the former place; delegate the zone to the new one{one}"
            ));
        }
    }
    Ok(())
}
