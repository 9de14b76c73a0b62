//! Whom an environment has told of drains that fail: what is kept and what is shown.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use uuid::Uuid;

use crate::world::{World, random_handle};

fn whsec() -> String {
    format!("whsec_{}", STANDARD.encode([7; 24]))
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_are_set_shown_and_taken_away_and_the_secret_is_sealed() -> Result<()> {
    let world = World::new().await?;
    let none = json!({"webhook_url": null, "has_webhook_secret": false, "emails": [],
        "last_error": null, "last_error_at": null});
    let path = format!("/v1/environments/{}", world.environment().await?);
    assert_eq!(world.get("viewer", &path).await?.json["notices"], none);

    let notices = json!({"webhook_url": "https://hooks.example.com/in", "webhook_secret": whsec(),
        "emails": ["ada@example.com", "on-call@example.com"]});
    let shown = json!({"webhook_url": "https://hooks.example.com/in", "has_webhook_secret": true,
        "emails": ["ada@example.com", "on-call@example.com"],
        "last_error": null, "last_error_at": null});
    let changed = world.patch("owner", &path, json!({"notices": notices}), &[]).await?;
    assert_eq!((changed.status, &changed.json["notices"]), (200, &shown), "{}", changed.text);
    assert!(!changed.text.contains("whsec_"));
    let body = json!({"handle": random_handle(), "notices": notices});
    let created = world.post("owner", &world.environments_path(), body).await?;
    assert_eq!((created.status, &created.json["notices"]), (201, &shown), "{}", created.text);

    let admin = world.database.connect().await?;
    for environment in [&changed, &created] {
        let id: Uuid = environment.id().parse()?;
        let sealed = "select sealed_webhook_secret from notice_settings where environment_id = $1";
        let sealed: Vec<u8> = admin.query_one(sealed, &[&id]).await?.get(0);
        assert_eq!(world.worker_key.open(id, &sealed)?.expose(), whsec().as_bytes());
    }

    // What is left out stays, null takes away.
    let change = json!({"notices": {"webhook_secret": null, "emails": []}});
    let changed = world.patch("owner", &path, change, &[]).await?.json;
    assert_eq!(changed["notices"]["webhook_url"], "https://hooks.example.com/in");
    assert_eq!(changed["notices"]["has_webhook_secret"], false);
    let change = json!({"notices": {"webhook_url": null}});
    assert_eq!(world.patch("owner", &path, change, &[]).await?.json["notices"], none);
    let listed = world.get("owner", "/v1/environments?limit=200").await?.json;
    assert!(
        listed["items"]
            .as_array()
            .is_some_and(|items| items.iter().any(|it| it["notices"] == shown))
    );

    let statement =
        "insert into activity (id, block_id, environment_id, actor, action, target_kind,
            target_id, target_handle, detail)
        values ($1, $1, $2, 'platform', 'log_drain.failing', 'log_drain', $1, 'a', '')";
    let (activity, id) = (Uuid::now_v7(), created.id().parse::<Uuid>()?);
    admin.execute(statement, &[&activity, &id]).await?;
    let statement =
        "insert into notices (id, activity_id, environment_id, last_error, last_error_at)
        values ($1, $1, $2, 'the endpoint answered 500', now())";
    admin.execute(statement, &[&activity, &id]).await?;
    let shown = world.get("viewer", &format!("/v1/environments/{id}")).await?.json;
    assert_eq!(shown["notices"]["last_error"], "the endpoint answered 500");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_notices_are_refused_with_their_fields() -> Result<()> {
    let world = World::new().await?;
    let path = format!("/v1/environments/{}", world.environment().await?);
    let many: Vec<_> = (0..21).map(|n| format!("a{n}@example.com")).collect();
    for (notices, field) in [
        (json!({"webhook_url": "http://hooks.example.com/"}), "notices.webhook_url"),
        (json!({"webhook_url": "https://u:p@hooks.example.com/"}), "notices.webhook_url"),
        (json!({"webhook_secret": "short"}), "notices.webhook_secret"),
        (json!({"emails": ["ada"]}), "notices.emails"),
        (json!({"emails": ["a@b\r\nBcc: c@d"]}), "notices.emails"),
        (json!({"emails": ["a@b", "A@B"]}), "notices.emails"),
        (json!({"emails": many}), "notices.emails"),
        (json!({"colour": 1}), "notices.colour"),
    ] {
        let answer = world.patch("owner", &path, json!({"notices": notices}), &[]).await?;
        assert_eq!(answer.status, 422, "{notices}");
        assert_eq!(answer.json["errors"][0]["field"], field, "{notices}: {}", answer.text);
    }
    Ok(())
}
