//! When DNS answers from the new place, so that the former one may be left after the drain.

use super::plan::{Place, Wanted};
use super::{Mark, method};
use crate::api::PublishMethod;
use crate::model::name::DnsName;

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

/// Whether DNS answers for `name` from `present` and no longer from the place `former`. `home` is the operator's namespace.
///
/// # Errors
/// Words that say why not, or why that cannot be told.
pub fn has_moved(
    former: &Place,
    present: &Place,
    name: &DnsName,
    wanted: &Wanted,
    answers: &[Answer],
    home: &str,
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
    // The same external-dns publishes both: which of two objects it takes the mark from is its choice.
    let one_publisher =
        objects_in(former, home).is_some_and(|there| objects_in(present, home) == Some(there));
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
            true => places.contains(&present.id) || (one_publisher && places.contains(&former.id)),
            false => !places.contains(&former.id),
        };
        if !moved {
            return Err(format!(
                "{server} still answers for {name} from the former place; delegate the zone to the new one"
            ));
        }
    }
    Ok(())
}

/// The namespace of a place's DNSEndpoint objects.
fn objects_in<'a>(place: &'a Place, home: &'a str) -> Option<&'a str> {
    let outlet = place.zone.outlet.as_ref().filter(|outlet| outlet.method == PublishMethod::DnsEndpoint)?;
    Some(outlet.dns_endpoint.as_ref().and_then(|settings| settings.namespace.as_deref()).unwrap_or(home))
}
