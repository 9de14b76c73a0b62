//! Lists, changes and what is refused, alike for every kind of thing.

use anyhow::Result;
use serde_json::json;
use uuid::Uuid;

use crate::world::{World, random_handle};

#[tokio::test(flavor = "multi_thread")]
async fn pages_together_are_the_list_without_repeats() -> Result<()> {
    let world = World::new().await?;
    let environment = world.environment().await?;
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(world.app(&environment).await?);
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("/v1/environments/{environment}/apps?limit=3{cursor}");
        let page = world.get("viewer", &path).await?;
        let items = page.json["items"].as_array().expect("items");
        seen.extend(items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()));
        pages += 1;
        match page.json["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
        // What is made meanwhile comes last, what is deleted is not missed.
        if pages == 1 {
            made.push(world.app(&environment).await?);
        }
    }
    assert_eq!(seen, made);
    assert_eq!(pages, 3);

    let handle =
        world.get("viewer", &format!("/v1/apps/{}", made[4])).await?.json["handle"].clone();
    let handle = handle.as_str().expect("a handle");
    let path = format!("/v1/environments/{environment}/apps?handle={handle}");
    let found = world.get("viewer", &path).await?.json;
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(found["items"][0]["id"], made[4]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_queries_and_ids_are_told_apart() -> Result<()> {
    let world = World::new().await?;
    for query in ["limit=0", "limit=201", "limit=x", "cursor=x", "cursor=", "colour=1", "handle=A"]
    {
        let answer = world.get("owner", &format!("/v1/environments?{query}")).await?;
        assert_eq!((answer.status, answer.problem()), (400, "bad-request"), "{query}");
    }
    for id in ["x", "1", &Uuid::now_v7().to_string(), &Uuid::nil().to_string()] {
        let answer = world.get("owner", &format!("/v1/apps/{id}")).await?;
        assert_eq!((answer.status, answer.problem()), (404, "not-found"), "{id}");
    }
    let unknown = world.get("owner", "/v1/organizations/%00/environments").await?;
    assert_eq!(unknown.status, 404);
    let (status, problem) =
        world.send_raw("owner", "/v1/nothing", "application/json", vec![]).await?;
    assert_eq!((status, problem["type"].as_str()), (404, Some("urn:spillway:problem:not-found")));
    let (status, _) = world.send_raw("owner", "/v1/me", "application/json", vec![]).await?;
    assert_eq!(status, 405);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_an_old_revision_is_refused() -> Result<()> {
    let world = World::new().await?;
    let environment = world.environment().await?;
    let (app, database) = (world.app(&environment).await?, world.database(&environment).await?);
    let drain = world.drain(&environment).await?;
    let source = world.log_source(&environment).await?;
    for (path, change) in [
        (format!("/v1/environments/{environment}"), json!({"idle_limit_seconds": 60})),
        (format!("/v1/apps/{app}"), json!({"image": "alpine"})),
        (format!("/v1/apps/{app}/configuration"), json!({"variables": {"A": "1"}})),
        (format!("/v1/databases/{database}"), json!({"engine": "mysql"})),
        (format!("/v1/log-drains/{drain}"), json!({"drain_apps": true})),
        (format!("/v1/log-sources/{source}"), json!({"disabled": false})),
    ] {
        let etag = world.get("owner", &path).await?.etag.expect("an ETag");
        let if_match = [("if-match", etag.as_str())];
        let first = world.patch("owner", &path, change.clone(), &if_match).await?;
        assert_eq!(first.status, 200, "{path}");
        assert_ne!(first.etag.as_deref(), Some(etag.as_str()), "{path}");
        let second = world.patch("admin", &path, change.clone(), &if_match).await?;
        assert_eq!((second.status, second.problem()), (412, "revision-changed"), "{path}");
        if !path.ends_with("configuration") {
            let deleted = world.delete("admin", &path, &if_match).await?;
            assert_eq!(deleted.status, 412, "{path}");
        }
        assert_eq!(world.patch("owner", &path, change.clone(), &[]).await?.status, 200, "{path}");
        let any = world.patch("owner", &path, change.clone(), &[("if-match", "*")]).await?;
        assert_eq!(any.status, 200, "{path}");
        let malformed = world.patch("owner", &path, change, &[("if-match", "7")]).await?;
        assert_eq!(malformed.status, 400, "{path}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn created_things_are_at_their_location_until_deleted() -> Result<()> {
    let world = World::new().await?;
    let handle = random_handle();
    let body = json!({"handle": handle, "idle_limit_seconds": 600});
    let created = world.post("admin", &world.environments_path(), body.clone()).await?;
    let location = created.location.expect("a location");
    let shown = world.get("viewer", &location).await?;
    assert_eq!(shown.json, created.json);
    assert_eq!((shown.etag, shown.json["idle_limit_seconds"].as_i64()), (created.etag, Some(600)));
    let again = world.post("admin", &world.environments_path(), body.clone()).await?;
    assert_eq!((again.status, again.problem()), (409, "handle-taken"));

    // By handle, as people write it; and an environment with something in it stays.
    let environment = created.json["id"].as_str().expect("an id");
    let app = world.app(environment).await?;
    let refused = world.delete("owner", &location, &[]).await?;
    assert_eq!((refused.status, refused.problem()), (409, "not-empty"));
    assert_eq!(world.delete("owner", &format!("/v1/apps/{app}"), &[]).await?.status, 204);
    assert_eq!(world.delete("owner", &location, &[]).await?.status, 204);
    assert_eq!(world.get("owner", &location).await?.status, 404);
    assert_eq!(world.delete("owner", &location, &[]).await?.status, 404);
    let path = "/v1/organizations/acme/environments";
    assert_eq!(world.post("owner", path, body).await?.status, 201);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_input_is_refused_with_its_fields() -> Result<()> {
    let world = World::new().await?;
    let path = world.environments_path();
    let fields = |answer: &crate::world::Answer| -> Vec<String> {
        let errors = answer.json["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().filter_map(|error| error["field"].as_str().map(str::to_owned)).collect()
    };
    let limits = json!({"handle": "a", "idle_limit_seconds": 1, "pids_limit": 0});
    let answer = world.post("owner", &path, limits).await?;
    assert_eq!(answer.status, 422);
    assert_eq!(fields(&answer), ["idle_limit_seconds", "pids_limit"]);
    let answer = world.post("owner", &path, json!({"handle": "Not A Handle"})).await?;
    assert_eq!((answer.status, fields(&answer)), (422, vec!["handle".to_owned()]));
    let answer = world.post("owner", &path, json!({"handle": "a", "colour": "red"})).await?;
    assert_eq!(answer.status, 422);
    assert!(answer.text.contains("unknown field `colour`"), "{}", answer.text);

    let big = format!("{{\"handle\": \"{}\"}}", "a".repeat(1024 * 1024)).into_bytes();
    for (content_type, body, status) in [
        ("application/json", b"{".to_vec(), 400),
        ("application/json", b"\xff\xfe".to_vec(), 400),
        ("application/json", big, 413),
        ("text/plain", b"{\"handle\": \"a\"}".to_vec(), 415),
    ] {
        assert_eq!(world.send_raw("owner", &path, content_type, body).await?.0, status);
    }
    Ok(())
}
