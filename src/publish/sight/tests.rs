use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::model::sighting::{Failure, ServerRole};

const ALIAS: &str = "selector1._domainkey.contoso.com";
const TARGET: &str = "selector1-contoso-com._domainkey.onmail.example";
const FORMER: &str = "selector1-contoso-com._domainkey.old.example";

fn name(text: &str) -> DnsName {
    DnsName::new(text).unwrap()
}

fn mark(owner: &str) -> Mark {
    Mark { owner: owner.to_owned(), place: "p".to_owned() }
}

fn seen(record: Outcome, mark: Outcome) -> Marked {
    let address = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 53));
    let record = ServerAnswer { name: None, address, role: ServerRole::Authoritative, outcome: record };
    Marked { record, mark }
}

fn cname(target: &str) -> Outcome {
    Outcome::Cname { target: name(target), ttl: 60 }
}

fn text(text: &str) -> Outcome {
    Outcome::Txt { texts: vec![text.to_owned()], ttl: 60 }
}

const NOTHING: Outcome = Outcome::NxDomain { negative_ttl: 60 };
const SILENCE: Outcome = Outcome::Failed(Failure::Timeout);

/// State and message of a CNAME, and whether its name is one where nothing new may be published.
fn judged(seen: &[Marked]) -> (PublishState, String, bool) {
    let answers: Vec<LinkAnswer> = seen.iter().map(LinkAnswer::of).collect();
    let wanted = Wanted { text: TARGET.to_owned(), ttl: 60 };
    let state = judge_cname(&name(ALIAS), &wanted, &answers, &mark("us"), "wait");
    (state.state, state.message, is_occupied(&wanted, &answers, &mark("us")))
}

#[test]
fn a_cname_is_somebody_elses_only_where_its_server_says_so() {
    let (ours, theirs) = (text(&mark("us").to_string()), text(&mark("them").to_string()));
    use PublishState::{Conflict, Pending, Published};
    for (what, record, mark, state, occupied) in [
        ("nothing", NOTHING, NOTHING, Pending, false),
        ("nothing heard", SILENCE, SILENCE, Pending, false),
        ("as it should be", cname(TARGET), ours.clone(), Published, false),
        ("as it should be, its mark not heard", cname(TARGET), SILENCE, Published, false),
        ("ours from before a move", cname(FORMER), ours.clone(), Pending, false),
        ("from before a move, its mark not heard", cname(FORMER), SILENCE, Pending, true),
        ("another without a mark", cname(FORMER), NOTHING, Conflict, true),
        ("another with somebody's mark", cname(FORMER), theirs, Conflict, true),
        ("a text", text("v=spf1 -all"), NOTHING, Conflict, true),
    ] {
        let (found, message, in_the_way) = judged(&[seen(record, mark)]);
        assert_eq!((found, in_the_way), (state, occupied), "{what}: {message}");
    }
    let (_, message, _) = judged(&[seen(cname(FORMER), SILENCE)]);
    assert!(message.contains("192.0.2.1 gives no clear answer"), "{message}");
}

#[test]
fn each_servers_record_is_judged_by_that_servers_mark() {
    let ours = text(&mark("us").to_string());
    // The mark that another server of the zone has is no mark here.
    let (state, ..) = judged(&[seen(cname(FORMER), ours.clone()), seen(cname(FORMER), SILENCE)]);
    assert_eq!(state, PublishState::Pending);
    let (state, ..) = judged(&[seen(cname(FORMER), ours.clone()), seen(cname(FORMER), NOTHING)]);
    assert_eq!(state, PublishState::Conflict);
    let (state, ..) = judged(&[seen(cname(TARGET), ours), seen(NOTHING, NOTHING)]);
    assert_eq!(state, PublishState::Pending);
    assert_eq!(judged(&[]).0, PublishState::Pending);
}

#[test]
fn a_text_whose_mark_is_not_heard_is_not_called_somebody_elses() {
    let wanted = Wanted { text: "key".to_owned(), ttl: 60 };
    let advice = Advice { missing: "wait", another: "wait", surplus: "" };
    let state = |marks: Option<Vec<String>>, ours: Option<&Mark>| {
        let answer = Answer { texts: Some(vec!["old".to_owned()]), marks, ..Answer::default() };
        judge(&name(TARGET), &wanted, &[answer], ours, &advice).state
    };
    let ours = mark("us");
    assert_eq!(state(None, Some(&ours)), PublishState::Pending);
    assert_eq!(state(Some(vec![ours.to_string()]), Some(&ours)), PublishState::Pending);
    assert_eq!(state(Some(Vec::new()), Some(&ours)), PublishState::Conflict);
    assert_eq!(state(Some(Vec::new()), None), PublishState::Pending);
}
