//! Tokens that are not what they should be, and credentials in the wrong place.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use progressd::{access::Scope, config::KeySource};
use serde_json::{Value, json};

use super::{SECRET, guarded, guarded_with, let_guess, now, signed, token};
use crate::support::TestApp;

async fn asked(app: &TestApp, token: &str) -> String {
    let answer = app.get("/api/tasks").bearer(token).send().await;
    if answer.status() == 200 { "200".to_owned() } else { format!("{} {}", answer.refusal(), answer.json()["detail"]) }
}

fn with_header(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| {
        let text = encode(&Header::default(), value, &EncodingKey::from_secret(b"x")).unwrap();
        text.split('.').nth(1).unwrap().to_owned()
    };
    format!("{}.{}.", part(header), part(claims))
}

#[tokio::test]
async fn a_token_is_believed_only_as_it_was_signed() {
    let app = guarded().await;
    let good = token("alice");
    assert_eq!(asked(&app, &good).await, "200");
    let claims = json!({ "sub": "alice", "exp": now() + 3600 });
    let (head, signature) = good.rsplit_once('.').unwrap();
    let other_payload = signed(&json!({ "sub": "bob", "exp": now() + 3600 }));
    let forged = [
        String::new(),
        "x".to_owned(),
        "..".to_owned(),
        head.to_owned(),
        format!("{head}."),
        format!("{head}.{}", &signature[..signature.len() - 4]),
        format!("{good}.{signature}"),
        format!("{}.{signature}", other_payload.rsplit_once('.').unwrap().0),
        with_header(&json!({ "alg": "none" }), &claims),
        with_header(&json!({ "alg": "None", "typ": "JWT" }), &claims),
        with_header(&json!({ "alg": "HS256" }), &claims),
        encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(b"another secret")).unwrap(),
        encode(&Header::new(Algorithm::HS512), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap(),
        "x".repeat(9000),
        format!("{good}{}", "x".repeat(9000)),
    ];
    for forged in forged {
        let said = asked(&app, &forged).await;
        assert!(said.starts_with("401 credential_invalid"), "{said}: {forged}");
    }
    let mut critical = Header::new(Algorithm::HS256);
    critical.crit = Some(vec!["b64".into()]);
    let critical = encode(&critical, &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    assert_eq!(
        asked(&app, &critical).await,
        "401 credential_invalid \"The token has critical headers, which are not supported.\""
    );
}

#[tokio::test]
async fn a_token_is_believed_only_in_its_time_and_for_whom_it_is_meant() {
    let app = guarded_with(|config| {
        config.access.jwt_issuer = Some("https://issuer.example".into());
        config.access.jwt_audience = Some("progressd".into());
    })
    .await;
    let good =
        json!({ "sub": "alice", "exp": now() + 60, "iss": "https://issuer.example", "aud": ["other", "progressd"] });
    let changed = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        signed(&claims)
    };
    assert_eq!(asked(&app, &signed(&good)).await, "200");
    assert_eq!(asked(&app, &changed("aud", json!("progressd"))).await, "200");
    assert_eq!(asked(&app, &changed("nbf", json!(now() + 20))).await, "200", "the clock of the issuer is ahead");
    for (name, value, reason) in [
        ("exp", json!(now() - 1), "The token has expired."),
        ("exp", Value::Null, "The token has no exp."),
        ("nbf", json!(now() + 40), "The token is not valid yet."),
        ("iss", json!("https://evil.example"), "The token was issued by another issuer."),
        ("iss", Value::Null, "The token was issued by another issuer."),
        ("aud", json!("other"), "The token is meant for another audience."),
        ("aud", json!([]), "The token is meant for another audience."),
        ("aud", Value::Null, "The token is meant for another audience."),
    ] {
        let said = asked(&app, &changed(name, value.clone())).await;
        assert_eq!(said, format!("401 credential_invalid \"{reason}\""), "{name}: {value}");
    }
    for sub in [json!(""), json!("a b"), json!("a/b"), json!("x".repeat(129)), Value::Null] {
        let said = asked(&app, &changed("sub", sub.clone())).await;
        assert!(said.starts_with("401 credential_invalid \"The token has no sub that is a user id"), "{sub}: {said}");
    }
    for (name, value) in [("sub", json!(1)), ("exp", json!("soon")), ("exp", json!(-1)), ("aud", json!(7))] {
        assert!(
            asked(&app, &changed(name, value.clone())).await.starts_with("401 credential_invalid"),
            "{name}: {value}"
        );
    }
}

#[tokio::test]
async fn public_keys_verify_their_own_algorithm_only() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/keys");
    let app =
        TestApp::with(|config| config.access.jwks = Some(KeySource::File(format!("{folder}/jwks.json").into()))).await;
    let claims = json!({ "sub": "alice", "exp": now() + 3600 });
    let read = |name: &str| std::fs::read(format!("{folder}/{name}")).unwrap();
    let keys = [
        (Algorithm::RS256, EncodingKey::from_rsa_der(&read("rs256.der"))),
        (Algorithm::ES256, EncodingKey::from_ec_der(&read("es256.der"))),
        (Algorithm::EdDSA, EncodingKey::from_ed_der(&read("eddsa.der"))),
    ];
    for (algorithm, key) in &keys {
        let mut header = Header::new(*algorithm);
        assert_eq!(asked(&app, &encode(&header, &claims, key).unwrap()).await, "200", "{algorithm:?}");
        header.kid = Some("another".into());
        let said = asked(&app, &encode(&header, &claims, key).unwrap()).await;
        assert!(said.starts_with("401 credential_invalid"), "{algorithm:?}: {said}");
    }
    // The same key with another hash, and what is public taken for a secret.
    let rs384 = encode(&Header::new(Algorithm::RS384), &claims, &keys[0].1).unwrap();
    let set: Value = serde_json::from_slice(&read("jwks.json")).unwrap();
    let public = set["keys"][0]["n"].as_str().unwrap();
    let confused = [public.as_bytes(), &read("jwks.json"), b""]
        .map(|secret| encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret)).unwrap());
    for token in confused.iter().chain([&rs384]) {
        let said = asked(&app, token).await;
        assert!(said.starts_with("401 credential_invalid"), "{said}");
    }
}

#[tokio::test]
async fn a_credential_counts_only_in_its_place() {
    let app = guarded().await;
    let good = token("alice");
    let task = app.post("/api/tasks").bearer(&good).json(&json!({})).send().await;
    let path = task.header("location");
    let asking = |scheme: &str| app.get(path).header("authorization", &format!("{scheme} {good}"));
    assert_eq!(asking("bearer").send().await.status(), 200, "the scheme has no case");
    for scheme in ["Basic", "Token", ""] {
        assert_eq!(asking(scheme).send().await.refusal(), "401 credential_invalid", "{scheme}");
    }
    let twice = app.get(path).bearer(&good).bearer(&good).send().await;
    assert_eq!(twice.refusal(), "400 malformed_request authorization");

    let in_query = |path: &str| app.get(&format!("{path}?token={good}"));
    assert_eq!(in_query(path).send().await.refusal(), "401 credential_required", "only streams take it there");
    assert_eq!(in_query(&format!("{path}/file")).send().await.refusal(), "401 credential_required");
    assert_eq!(in_query("/api/tasks").send().await.refusal(), "401 credential_required");
    assert_eq!(in_query(&format!("{path}/progress")).open().await.status(), 200);
    assert_eq!(in_query("/api/tasks").header("accept", "text/event-stream").open().await.status(), 200);
    let id = path.rsplit('/').next().unwrap();
    let several = app.get(&format!("/api/stream?channel=task:{id}&token={good}&lastEventId="));
    assert_eq!(several.open().await.status(), 200);
    let both = in_query(&format!("{path}/progress")).bearer(&good).send().await;
    assert_eq!(both.refusal(), "400 malformed_request token");
    let twice = app.get(&format!("{path}/progress?token={good}&token={good}")).send().await;
    assert_eq!(twice.refusal(), "401 credential_invalid");
    let wrong = app.get(&format!("{path}/progress?token=wrong")).send().await;
    assert_eq!(wrong.refusal(), "401 credential_invalid", "a real refusal keeps its status on a stream");
}

#[tokio::test]
async fn guesses_stay_guesses() {
    let app = guarded_with(let_guess).await;
    let key = app.key(&[Scope::Admin]);
    let id = key.split('_').nth(1).unwrap();
    for guess in 0..10_000 {
        let credential = if guess % 2 == 0 { format!("progressd_{id}_{guess:064x}") } else { signed_wrongly(guess) };
        let answer = app.get("/metrics").bearer(&credential).open().await;
        assert_eq!(answer.status(), 401, "{guess}");
    }
    assert_eq!(app.get("/metrics").bearer(&key).send().await.status(), 200);
}

fn signed_wrongly(guess: u32) -> String {
    let token = token("alice");
    let (head, signature) = token.rsplit_once('.').unwrap();
    format!("{head}.{guess:010x}{}", &signature[10..])
}
