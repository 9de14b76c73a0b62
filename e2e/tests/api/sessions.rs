//! Ephemeral sessions: granted, and shown to whom they may be shown.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, public_key};

async fn open(world: &World, caller: &str, app: &str) -> Result<Value> {
    let body = json!({"public_key": public_key(), "reason": "to look"});
    let answer = world.post(caller, &format!("/v1/apps/{app}/ephemeral-sessions"), body).await?;
    anyhow::ensure!(answer.status == 201, "{}", answer.text);
    Ok(answer.json)
}

fn ids(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().expect("items");
    items.iter().map(|item| item["id"].as_str().expect("an id")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_live_edge_no_session_is_granted() -> Result<()> {
    let world = World::new().await?;
    let app = world.app(&world.environment().await?).await?;
    let path = format!("/v1/apps/{app}/ephemeral-sessions");
    let body = json!({"public_key": public_key()});
    let refused = world.post("engineer", &path, body.clone()).await?;
    assert_eq!((refused.status, refused.problem()), (503, "no-edge"));

    world.edge().await?;
    let admin = world.database.connect().await?;
    admin.execute("update edges set seen_at = now() - interval '16 seconds'", &[]).await?;
    assert_eq!(world.post("engineer", &path, body.clone()).await?.status, 503);
    admin.execute("update edges set seen_at = now()", &[]).await?;
    assert_eq!(world.post("engineer", &path, body.clone()).await?.status, 201);
    admin.execute("update edges set stopped_at = now()", &[]).await?;
    assert_eq!(world.post("engineer", &path, body).await?.status, 503);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_session_has_all_that_a_client_needs() -> Result<()> {
    let world = World::new().await?;
    world.edge().await?;
    let app = world.app(&world.environment().await?).await?;
    let granted = open(&world, "engineer", &app).await?;
    let session = &granted["session"];
    assert_eq!(session["state"], "requested");
    assert_eq!(session["user_email"], "engineer@example.com");
    assert_eq!(session["reason"], "to look");
    assert_eq!(granted["user_name"], session["id"]);
    assert_eq!(granted["host_principal"], "spillway-edge");
    assert_eq!(granted["addresses"], json!(["127.0.0.1:2222"]));
    assert!(granted["host_authority"].as_str().is_some_and(|it| it.starts_with("ssh-ed25519 ")));

    // What OpenSSH makes of the certificate.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("key-cert.pub");
    std::fs::write(&file, granted["certificate"].as_str().context("a certificate")?)?;
    let shown = std::process::Command::new("ssh-keygen").arg("-L").arg("-f").arg(&file).output()?;
    let shown = String::from_utf8(shown.stdout)?;
    let id = session["id"].as_str().context("an id")?;
    let principals = shown.split("Principals:").nth(1).context("principals")?;
    assert!(principals.trim_start().starts_with(id), "{shown}");
    assert!(shown.contains(&format!("Key ID: \"{id}\"")), "{shown}");
    assert!(shown.contains("Critical Options: (none)"), "{shown}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn engineer_sees_own_sessions_and_auditor_all() -> Result<()> {
    let world = World::new().await?;
    world.edge().await?;
    let environment = world.environment().await?;
    let app = world.app(&environment).await?;
    let mut made = Vec::new();
    for caller in ["engineer", "admin", "engineer"] {
        let granted = open(&world, caller, &app).await?;
        made.push(granted["session"]["id"].as_str().context("an id")?.to_owned());
    }
    let path = format!("/v1/environments/{environment}/ephemeral-sessions");
    let all = world.get("auditor", &path).await?.json;
    assert_eq!(ids(&all), [made[2].as_str(), &made[1], &made[0]]);
    let own = world.get("engineer", &path).await?.json;
    assert_eq!(ids(&own), [made[2].as_str(), &made[0]]);

    let admin = all["items"][1]["user_id"].as_str().context("a user")?;
    let of_admin = format!("{path}?user={admin}");
    assert_eq!(ids(&world.get("auditor", &of_admin).await?.json), [made[1].as_str()]);
    assert!(ids(&world.get("engineer", &of_admin).await?.json).is_empty());
    let show = |id: &str| format!("/v1/ephemeral-sessions/{id}");
    assert_eq!(world.get("engineer", &show(&made[0])).await?.status, 200);
    assert_eq!(world.get("engineer", &show(&made[1])).await?.status, 404);

    let first = world.get("owner", &format!("{path}?limit=2")).await?.json;
    let cursor = first["next_cursor"].as_str().context("a cursor")?;
    let second = world.get("owner", &format!("{path}?limit=2&cursor={cursor}")).await?.json;
    assert_eq!(ids(&second), [made[0].as_str()]);
    for (filter, count) in [
        ("state=requested".to_owned(), 3),
        ("state=active".to_owned(), 0),
        (format!("app={app}"), 3),
        (format!("app={}", Uuid::now_v7()), 0),
    ] {
        let found = world.get("owner", &format!("{path}?{filter}")).await?.json;
        assert_eq!(ids(&found).len(), count, "{filter}");
    }
    assert_eq!(world.get("owner", &format!("{path}?state=x")).await?.status, 400);
    Ok(())
}
