//! The table of access is what is enforced: every route is in it, and every route is tried as everyone.

use std::collections::BTreeSet;

use progressd::access::{Needs, ROUTES, Scope};
use serde_json::json;

use super::{guarded, now, signed, token};
use crate::support::TestApp;

#[tokio::test]
async fn every_route_is_in_the_table_and_nothing_else_is() {
    let api = TestApp::in_process().await.get("/openapi.json").send().await.json();
    let paths = api["paths"].as_object().unwrap().iter();
    let routes: BTreeSet<String> = paths
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let table: BTreeSet<String> = ROUTES.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(table.len(), ROUTES.len(), "a route stands there twice");
    assert_eq!(routes.difference(&table).collect::<Vec<_>>(), [""; 0], "say in src/access/table.rs what these need");
    assert_eq!(table.difference(&routes).collect::<Vec<_>>(), [""; 0], "these routes do not exist");
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    /// Without a credential.
    Nobody,
    /// With a token that has expired.
    Expired,
    /// With a key that was revoked.
    Revoked,
    /// With a cookie of which the token, the key or the session has ended.
    Unseated,
    /// Whose the task and the user in the path are.
    Owner,
    /// The same, signed in on a page of this service.
    SignedIn,
    /// The same, whose browser is made to ask by a page of another site.
    Lured,
    /// Another person.
    Other,
    /// A program with one scope.
    Program(Scope),
}

const PASSES: u16 = 0;

/// What a route with this need answers, by the words of the table.
fn expected(method: &str, needs: Needs, path: &str, who: Who) -> u16 {
    use Needs::*;
    let of_scope = |needed: Scope, scope: Scope| if [needed, Scope::Admin].contains(&scope) { PASSES } else { 403 };
    let is_safe = method == "GET";
    match (needs, who) {
        (_, Who::Lured) if !is_safe => 403,
        (Nothing, _) => PASSES,
        // It is for those who have no cookie yet, or one that is not good any more.
        (_, Who::SignedIn) if (method, path) == ("POST", "/api/session") => 401,
        (_, Who::Lured) => 403,
        (_, Who::SignedIn) => expected(method, needs, path, Who::Owner),
        (_, Who::Nobody | Who::Expired | Who::Revoked | Who::Unseated) => 401,
        (Anyone, _) => PASSES,
        (PersonOr(_) | NewOr(_) | OwnerOr(_) | UserOr(_), Who::Owner) => PASSES,
        (PersonOr(_), Who::Other) => PASSES,
        (NewOr(_) | OwnerOr(_) | UserOr(_) | LeaseOr(_), Who::Other) => 404,
        (LeaseOr(_) | Only(_), Who::Owner) | (Only(_), Who::Other) => 403,
        (PersonOr(scope) | NewOr(scope) | OwnerOr(scope) | UserOr(scope) | LeaseOr(scope) | Only(scope), who) => {
            let Who::Program(own) = who else { unreachable!("people were named above") };
            of_scope(scope, own)
        }
        // The game is public, the topic is not.
        (WatchTopic(_), _) => PASSES,
        (Watch, _) if path.contains("{gameId}") => PASSES,
        (PublicOr(_), Who::Owner | Who::Other) => 404,
        (Watch, Who::Owner | Who::Other) if path.contains("{topic}") => 404,
        (PublicOr(scope), Who::Program(own)) => of_scope(scope, own),
        (Watch, Who::Program(scope)) if path.contains("{topic}") => of_scope(Scope::Publish, scope),
        (Watch, Who::Owner) => PASSES,
        (Watch, Who::Other) => 404,
        (Watch, Who::Program(scope)) if path.contains("{taskId}") => of_scope(Scope::Read, scope),
        // Channels in a query are looked for one by one.
        (Watch, Who::Program(scope)) if path == "/api/notifications/stream" => {
            if scope == Scope::Admin {
                PASSES
            } else {
                404
            }
        }
        (Watch, Who::Program(scope)) if path == "/api/stream" => {
            if [Scope::Read, Scope::Admin].contains(&scope) {
                PASSES
            } else {
                404
            }
        }
        (Watch, Who::Program(scope)) => of_scope(Scope::Admin, scope),
    }
}

#[tokio::test]
async fn every_route_answers_everyone_as_the_table_says() {
    let app = guarded().await;
    let admin = app.key(&[Scope::Admin]);
    let revoked = app.key(&[Scope::Admin]);
    app.access_files().revoke(revoked.split('_').nth(1).unwrap()).unwrap();
    drop(app.get("/sse/connect/alice").bearer(&token("alice")).open().await);

    let bearer = |token: &str| vec![("authorization", format!("Bearer {token}"))];
    let cookie = |cookie: String| vec![("cookie", cookie), ("sec-fetch-site", "same-origin".to_owned())];
    let lure = |site: &str, cookie: &str| vec![("cookie", cookie.to_owned()), ("sec-fetch-site", site.to_owned())];
    let expired = signed(&json!({ "sub": "alice", "exp": now() - 1 }));
    let signed_in = app.cookie_of(&token("alice"));
    let signed_out = app.sign_in(&token("alice")).await;
    let leaves = app.request("DELETE", "/api/session").header("cookie", &signed_out).send().await;
    assert_eq!(leaves.status(), 204);

    let programs = Scope::ALL.map(|scope| (Who::Program(scope), bearer(&app.key(&[scope]))));
    let others = [
        (Who::Nobody, vec![]),
        (Who::Expired, bearer(&expired)),
        (Who::Revoked, bearer(&revoked)),
        (Who::Unseated, cookie(app.cookie_of(&expired))),
        (Who::Unseated, cookie(app.cookie_of(&revoked))),
        (Who::Unseated, cookie(signed_out)),
        (Who::Owner, bearer(&token("alice"))),
        // One of the routes signs out: each is tried with a cookie of its own.
        (Who::SignedIn, vec![("sec-fetch-site", "same-origin".to_owned())]),
        (Who::Lured, lure("cross-site", &signed_in)),
        (Who::Lured, lure("same-site", &signed_in)),
        (Who::Other, bearer(&token("bob"))),
    ];
    for (who, headers) in others.into_iter().chain(programs) {
        for (method, path, needs) in ROUTES {
            let task = json!({ "userId": "alice", "start": true });
            let task = app.post("/api/tasks").bearer(&admin).json(&task).send().await.json();
            let id = task["taskId"].as_str().unwrap();
            let target = path.replace("{taskId}", id).replace("{userId}", "alice").replace("{group}", "team");
            let target = target.replace("{topic}", "secret").replace("{gameId}", "7");
            let topic = app.request("PUT", "/api/topics/secret").bearer(&admin).json(&json!({ "data": 1 }));
            assert_eq!(topic.send().await.status(), 200);
            let target = if *path == "/api/stream" { format!("{target}?channel=task:{id}") } else { target };
            let target = if *path == "/api/notifications/stream" { format!("{target}?userId=alice") } else { target };
            let asking = app.request(method, &target).header("prefer", "respond-async");
            let own = (who == Who::SignedIn).then(|| ("cookie", app.cookie_of(&token("alice"))));
            let asking = headers.iter().chain(&own).fold(asking, |asking, (name, value)| asking.header(name, value));
            let answer = asking.json(&json!({})).open().await;
            let expected = expected(method, *needs, path, who);
            let status = answer.status().as_u16();
            let found =
                if [401, 403].contains(&status) || expected == 404 || hides(path, status) { status } else { PASSES };
            assert_eq!(found, expected, "{who:?} {method} {path}: {status}");
            assert_eq!(status == 401, answer.headers().contains_key("www-authenticate"), "{who:?} {method} {path}");
        }
    }
}

/// Whether this is the answer that hides a task or a user; an asset or a file may well be missing.
fn hides(path: &str, status: u16) -> bool {
    status == 404
        && ["{taskId}", "{userId}", "{topic}", "{gameId}", "events", "/api/stream", "/api/notifications"]
            .iter()
            .any(|part| path.contains(part))
        && !path.ends_with("/file")
}
