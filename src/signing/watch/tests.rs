//! A watch that breaks, and what it asks for then, of a stand-in for the API server.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{StatusCode, Uri};
use futures::stream;
use kube::core::Status;
use serde_json::{Value, json};

use super::*;

fn secret(name: &str, version: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "resourceVersion": version } })
}

fn status(code: u16, message: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": message, "reason": "", "code": code })
}

fn event(kind: &str, object: &Value) -> String {
    json!({ "type": kind, "object": object }).to_string() + "\n"
}

fn page(version: &str, token: &str, names: &[&str]) -> String {
    let items: Vec<Value> = names.iter().map(|name| secret(name, "1")).collect();
    let metadata = json!({ "resourceVersion": version, "continue": token });
    json!({ "apiVersion": "v1", "kind": "SecretList", "metadata": metadata, "items": items }).to_string()
}

/// One that answers what is asked in this order, and notes it.
async fn server(answers: Vec<(u16, String)>) -> (Client, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (noted, answers) = (Arc::clone(&asked), Arc::new(Mutex::new(VecDeque::from(answers))));
    let answer = move |uri: Uri| {
        let query: Vec<&str> = uri.query().unwrap_or_default().split('&').collect();
        let value = |name: &str| query.iter().find_map(|pair| pair.strip_prefix(name)).unwrap_or_default();
        noted.lock().unwrap().push(match value("watch=") {
            "" => format!("list {}", value("continue=")),
            _ => format!("watch {}", value("resourceVersion=")),
        });
        let next = answers.lock().unwrap().pop_front();
        async move {
            let (code, body) = next.unwrap_or_else(|| (500, status(500, "no more").to_string()));
            (StatusCode::from_u16(code).unwrap(), [("content-type", "application/json")], body)
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(axum::serve(listener, Router::new().fallback(answer)).into_future());
    (Client::try_from(kube::Config::new(uri)).unwrap(), asked)
}

/// In short.
fn words(news: &News) -> String {
    let names = |secrets: &[KeySecret]| secrets.iter().map(|s| s.name_any()).collect::<Vec<_>>().join(",");
    match news {
        News::Begun => "begun".to_owned(),
        News::Page(secrets) => format!("page {}", names(secrets)),
        News::Listed(version) => format!("listed {version}"),
        News::Changed(changes, version) => {
            let change = |change: &Change| match change {
                Change::Is(secret) => format!("+{}", secret.name_any()),
                Change::Gone(secret) => format!("-{}", secret.name_any()),
            };
            format!("{} at {version}", changes.iter().map(change).collect::<String>())
        }
        News::Reached => "reached".to_owned(),
    }
}

#[tokio::test]
async fn it_goes_on_where_it_was_unless_the_server_has_forgotten() {
    let refused = |code| (code, status(code, "not now").to_string());
    let change = event("MODIFIED", &secret("a", "11")) + &event("ERROR", &status(503, "not now"));
    let gone = event("DELETED", &secret("a", "12")) + &event("ERROR", &status(410, "too old"));
    let (client, asked) = server(vec![
        (200, page("10", "t1", &["a"])),
        refused(429),
        (200, page("10", "", &["b"])),
        refused(403),
        (200, change),
        (200, gone),
        (200, page("20", "", &[])),
    ])
    .await;
    let mut watch = SecretWatch::new(client, "mail");
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "listed 20") {
        told.push(words(&watch.next().await));
    }
    let expected = [
        "begun",
        "page a",
        "page b",
        "listed 10",
        "reached",
        "+a at 11",
        "reached",
        "-a at 12",
        "begun",
        "page ",
        "listed 20",
    ];
    assert_eq!(told, expected);
    let expected = ["list ", "list t1", "list t1", "watch 10", "watch 10", "watch 11", "list "];
    assert_eq!(*asked.lock().unwrap(), expected);
}

#[tokio::test]
async fn what_came_before_an_error_is_told_before_it() {
    let is =
        |version: &str| serde_json::from_value(json!({ "type": "ADDED", "object": secret("a", version) }));
    let broken = || kube::Error::ReadEvents(std::io::Error::other("reset"));
    let events = stream::iter([Ok(is("5").unwrap()), Ok(is("6").unwrap()), Err(broken())]).boxed();
    let Ok((State::Broken(version, error), Some(news))) = group("4".to_owned(), events).await else {
        panic!("they are lost")
    };
    assert_eq!((version.as_str(), words(&news).as_str()), ("6", "+a+a at 6"));
    assert!(passes(&error));
    assert!(group("4".to_owned(), stream::iter([Err(broken())]).boxed()).await.is_err());
}

#[test]
fn what_will_not_do_later_is_not_asked_again() {
    let api = |code, message: &str| {
        let status = Status { code, message: message.to_owned(), ..Status::default() };
        passes(&kube::Error::Api(Box::new(status)))
    };
    for code in [401, 403, 408, 429, 502, 503, 504] {
        assert!(api(code, "not now"), "{code}");
    }
    for code in [400, 404, 410, 422, 500] {
        assert!(!api(code, "no"), "{code}");
    }
    assert!(!api(504, "Timeout: Too large resource version: 12, current: 3"));
    let no_json = serde_json::from_str::<Value>("{").unwrap_err();
    assert!(!passes(&kube::Error::SerdeError(no_json)));
}
