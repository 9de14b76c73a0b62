//! What users did to log drains, and to how long records are kept, is written down with it, or not at all.

use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{World, syslog_drain};

async fn activity(world: &World, environment: &str) -> Result<Vec<Value>> {
    let path = format!("/v1/environments/{environment}/activity?limit=200");
    let answer = world.get("viewer", &path).await?;
    Ok(answer.json["items"].as_array().context("items")?.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_a_drain_is_written_down_with_who_made_it() -> Result<()> {
    let world = World::new().await?;
    let environment = world.environment().await?;
    let drain = world.drain(&environment).await?;
    let path = format!("/v1/log-drains/{drain}");
    let handle = world.get("owner", &path).await?.json["handle"].clone();
    let change = json!({"drain_activity": true, "credentials": {"token": "MARKER"}});
    let changed = world.patch("admin", &path, change, &[]).await?;
    assert_eq!(changed.json["drain_activity"], true, "{}", changed.text);
    for step in ["pause", "pause", "resume"] {
        let token = world.token("owner");
        world.send(token, Method::POST, &format!("{path}/{step}"), None, &[]).await?;
    }
    world.delete("admin", &path, &[]).await?;

    let told = activity(&world, &environment).await?;
    let said: Vec<_> = told
        .iter()
        .map(|it| (it["action"].as_str().unwrap(), it["actor"].as_str().unwrap(), &it["detail"]))
        .collect();
    let (owner, admin) = ("owner@example.com", "admin@example.com");
    assert_eq!(
        said,
        [
            ("log_drain.deleted", admin, &json!("")),
            ("log_drain.resumed", owner, &json!("")),
            // What is so already is not done again.
            ("log_drain.paused", owner, &json!("")),
            ("log_drain.changed", admin, &json!("credentials, drain_activity")),
            ("log_drain.created", owner, &json!("kind syslog_tls_tcp")),
        ]
    );
    for it in &told {
        assert_eq!(it["target_kind"], "log_drain");
        assert_eq!((&it["target_id"], &it["target"]), (&json!(drain), &handle));
        assert!(it["actor_id"].is_string());
    }
    assert!(!json!(told).to_string().contains("MARKER"));
    // Another environment's is another list, and nobody else's business.
    assert!(activity(&world, &world.environment().await?).await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_records_are_kept_is_shown_and_its_changes_are_written_down() -> Result<()> {
    let world = World::new().await?;
    let environment = world.environment().await?;
    let path = format!("/v1/environments/{environment}");
    let retention = |seconds: Value, bytes: Value| json!({"seconds": seconds, "bytes": bytes, "kept_bytes": 0, "horizon_at": null});
    let shown = world.get("viewer", &path).await?.json;
    assert_eq!(shown["retention"], retention(json!(2_592_000), Value::Null));
    for (change, field) in
        [(json!({"seconds": 60}), "retention.seconds"), (json!({"bytes": 1000}), "retention.bytes")]
    {
        let refused = world.patch("owner", &path, json!({"retention": change}), &[]).await?;
        assert_eq!(refused.status, 422, "{}", refused.text);
        assert_eq!(refused.json["errors"][0]["field"], field, "{}", refused.text);
    }
    // What is left out stays, null takes away.
    for (change, after) in [
        (json!({"bytes": 2_097_152}), retention(json!(2_592_000), json!(2_097_152))),
        (json!({"seconds": null}), retention(Value::Null, json!(2_097_152))),
        (json!({"seconds": null}), retention(Value::Null, json!(2_097_152))),
    ] {
        let changed = world.patch("admin", &path, json!({"retention": change}), &[]).await?;
        assert_eq!(changed.json["retention"], after, "{}", changed.text);
    }
    let told = activity(&world, &environment).await?;
    let said: Vec<_> =
        told.iter().map(|it| (it["action"].as_str(), it["detail"].as_str())).collect();
    let action = Some("environment.retention_changed");
    let (first, second) = (
        "2592000 s and at most 2097152 bytes instead of 2592000 s",
        "for ever and at most 2097152 bytes instead of 2592000 s and at most 2097152 bytes",
    );
    assert_eq!(said, [(action, Some(second)), (action, Some(first))]);
    assert_eq!(told[0]["actor"], "admin@example.com");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn activity_comes_in_pages_newest_first() -> Result<()> {
    let world = World::new().await?;
    let environment = world.environment().await?;
    for _ in 0..7 {
        world.drain(&environment).await?;
    }
    let all = activity(&world, &environment).await?;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/environments/{environment}/activity?limit=3{cursor}");
        let page = world.get("auditor", &path).await?.json;
        seen.extend(page["items"].as_array().context("items")?.clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
        // What happens meanwhile is on no later page.
        world.drain(&environment).await?;
    }
    assert_eq!(seen, all);
    assert_eq!(seen.len(), 7);
    assert!(seen.is_sorted_by(|one, next| one["id"].as_str() > next["id"].as_str()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_not_made_leaves_no_activity_and_none_is_made_without() -> Result<()> {
    let world = World::new().await?;
    let environment = world.environment().await?;
    let drain = world.drain(&environment).await?;
    let drains = format!("/v1/environments/{environment}/log-drains");
    let path = format!("/v1/log-drains/{drain}");
    let before = activity(&world, &environment).await?;

    // Refused by a rule, and at the very end of its transaction.
    let taken = world.get("owner", &path).await?.json["handle"].clone();
    let mut twin = syslog_drain();
    twin["handle"] = taken;
    assert_eq!(world.post("owner", &drains, twin).await?.status, 409);
    let change = json!({"redraws": "last"});
    let old = [("if-match", "\"0\"")];
    assert_eq!(world.patch("owner", &path, change.clone(), &old).await?.status, 412);
    assert_eq!(world.delete("owner", &path, &old).await?.status, 412);
    let admin = world.database.connect().await?;
    admin
        .batch_execute(
            "create function refuse() returns trigger language plpgsql as
                 $$ begin raise exception 'refused'; end $$;
             create constraint trigger refuse after insert or update or delete on log_drains
                 deferrable initially deferred for each row execute function refuse()",
        )
        .await?;
    assert_eq!(world.post("owner", &drains, syslog_drain()).await?.status, 503);
    assert_eq!(world.patch("owner", &path, change.clone(), &[]).await?.status, 503);
    assert_eq!(world.delete("owner", &path, &[]).await?.status, 503);
    let pause = format!("{path}/pause");
    let paused = world.send(world.token("owner"), Method::POST, &pause, None, &[]).await?;
    assert_eq!(paused.status, 503);
    admin.batch_execute("drop trigger refuse on log_drains").await?;
    assert_eq!(activity(&world, &environment).await?, before);

    // What cannot be written down is not done.
    let shown = world.get("owner", &path).await?.json;
    admin
        .batch_execute(
            "create trigger refuse before insert on activity
                 for each row execute function refuse()",
        )
        .await?;
    assert_eq!(world.post("owner", &drains, syslog_drain()).await?.status, 503);
    assert_eq!(world.patch("owner", &path, change, &[]).await?.status, 503);
    assert_eq!(world.delete("owner", &path, &[]).await?.status, 503);
    assert_eq!(world.get("owner", &path).await?.json, shown);
    let listed = world.get("owner", &drains).await?.json;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
    Ok(())
}
