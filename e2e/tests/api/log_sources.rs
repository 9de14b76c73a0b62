//! Log sources: what is kept, what an intake sees of it, what is told.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use e2e::certificates::CertificateAuthority;
use e2e::process;
use reqwest::Method;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use store::Store;
use store::intake::{IntakeSource, SourceCounts};

use crate::world::{Answer, World, random_handle};

/// The only source that intakes see.
async fn of_intake(world: &World) -> Result<Option<IntakeSource>> {
    let store = Store::connect(&world.database.intake_url()?, 2)?;
    let mut sources = store.intake_sources().await?;
    assert!(sources.len() <= 1, "{sources:?}");
    Ok(sources.pop())
}

fn sha256(text: &str) -> Vec<u8> {
    Sha256::digest(text).to_vec()
}

async fn rotate(world: &World, path: &str, body: Value) -> Result<Answer> {
    world.post("owner", &format!("{path}/rotate"), body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_shown_once_and_opens_the_source_until_it_is_rotated() -> Result<()> {
    let world = World::new().await?;
    let environment = world.environment().await?;
    let app = world.app(&environment).await?;
    let path = format!("/v1/environments/{environment}/log-sources");
    let body = json!({"handle": "web", "app_id": app, "burst_bytes": 4096});
    let created = world.post("admin", &path, body).await?;
    assert_eq!(created.status, 201, "{}", created.text);
    let token = created.json["token"].as_str().context("a token")?.to_owned();
    let key = token.get(..7).context("a key")?;
    assert_eq!((token.len(), Some(key)), (32, created.json["token_key"].as_str()));
    let seen = of_intake(&world).await?.context("a source")?;
    assert_eq!((&*seen.token.key, &seen.token.hash), (key, &sha256(&token)));
    assert_eq!((seen.previous_token, seen.quota), (None, (None, Some(4096))));
    assert_eq!(seen.app.map(|app| app.id.to_string()), Some(app));

    let path = created.location.context("a location")?;
    let shown = world.get("viewer", &path).await?;
    assert_eq!(shown.json.get("token"), None);
    assert!(!shown.text.contains(&token));
    assert_eq!(shown.etag, created.etag);

    // The old token is good for as long as was asked for, and a second rotation ends that.
    let rotated = rotate(&world, &path, json!({"keep_old_seconds": 60})).await?;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    let second = rotated.json["token"].as_str().context("a token")?.to_owned();
    assert_ne!(second, token);
    let seen = of_intake(&world).await?.context("a source")?;
    assert_eq!(seen.token.hash, sha256(&second));
    let (previous, until) = seen.previous_token.context("the old token")?;
    assert_eq!((&*previous.key, previous.hash), (key, sha256(&token)));
    let left = SystemTime::from(until).duration_since(SystemTime::now())?.as_secs();
    assert!((50..=60).contains(&left), "{left}");
    let rotated = rotate(&world, &path, json!({})).await?;
    let seen = of_intake(&world).await?.context("a source")?;
    let (previous, until) = seen.previous_token.context("the old token")?;
    assert_eq!(previous.hash, sha256(&second));
    assert!(SystemTime::from(until) <= SystemTime::now());
    assert_eq!(rotated.json["revision"], 3);
    assert_eq!(rotate(&world, &path, json!({"keep_old_seconds": 86_401})).await?.status, 422);

    assert_eq!(world.delete("owner", &path, &[]).await?.status, 204);
    assert_eq!(of_intake(&world).await?, None);
    assert_eq!(rotate(&world, &path, json!({})).await?.status, 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn source_is_of_one_app_or_database_of_its_environment() -> Result<()> {
    let world = World::new().await?;
    let (environment, other) = (world.environment().await?, world.environment().await?);
    let (app, database) = (world.app(&environment).await?, world.database(&environment).await?);
    let (foreign, gone) = (world.app(&other).await?, world.database(&environment).await?);
    world.delete("owner", &format!("/v1/databases/{gone}"), &[]).await?;
    let path = format!("/v1/environments/{environment}/log-sources");
    for (subject, field) in [
        (json!({}), "app_id"),
        (json!({"app_id": app, "database_id": database}), "app_id"),
        (json!({"app_id": foreign}), "app_id"),
        (json!({"database_id": app}), "database_id"),
        (json!({"database_id": gone}), "database_id"),
        (json!({"app_id": app, "bytes_per_second": 1}), "bytes_per_second"),
    ] {
        let mut body = subject;
        body["handle"] = json!(random_handle());
        let refused = world.post("owner", &path, body).await?;
        assert_eq!(refused.status, 422, "{}", refused.text);
        assert_eq!(refused.json["errors"][0]["field"], field, "{}", refused.text);
    }
    let body = json!({"handle": "main", "database_id": database});
    assert_eq!(world.post("owner", &path, body.clone()).await?.status, 201);
    let again = world.post("owner", &path, body.clone()).await?;
    assert_eq!((again.status, again.problem()), (409, "handle-taken"));

    // It goes with what its lines are of, and its handle is free again.
    let path_of_database = format!("/v1/databases/{database}");
    assert_eq!(world.delete("admin", &path_of_database, &[]).await?.status, 204);
    assert_eq!(world.get("owner", &path).await?.json["items"], json!([]));
    let activity = format!("/v1/environments/{environment}/activity");
    let told = world.get("viewer", &activity).await?.json["items"][0].clone();
    assert_eq!(told["action"], "log_source.deleted");
    assert_eq!(
        (&told["actor"], &told["detail"]),
        (&json!("admin@example.com"), &json!("with its database"))
    );
    let body = json!({"handle": "main", "app_id": app});
    assert_eq!(world.post("owner", &path, body).await?.status, 201);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificate_is_of_one_source_only() -> Result<()> {
    let world = World::new().await?;
    let environment = world.environment().await?;
    let app = world.app(&environment).await?;
    let authority = CertificateAuthority::new()?;
    let (first, second) = (authority.issue(&["one"])?, authority.issue(&["two"])?);
    let path = format!("/v1/environments/{environment}/log-sources");
    let body = |certificates: Value| json!({"handle": random_handle(), "app_id": app, "client_certificates": certificates});
    let created = world.post("owner", &path, body(json!([first.certificate]))).await?;
    assert_eq!(created.status, 201, "{}", created.text);
    let fingerprints = created.json["client_certificates"].as_array().context("a list")?.clone();
    let seen = of_intake(&world).await?.context("a source")?;
    assert_eq!(
        seen.client_certificates,
        [Sha256::digest(CertificateDer::from_pem_slice(first.certificate.as_bytes())?).to_vec()]
    );
    assert_eq!(fingerprints.len(), 1);

    // Somebody else who names it does not get its lines.
    let taken =
        world.post("owner", &path, body(json!([second.certificate, first.certificate]))).await?;
    assert_eq!((taken.status, taken.problem()), (409, "certificate-taken"));
    for (bad, field) in [
        (json!(["no certificate"]), "client_certificates.0"),
        (json!([second.certificate, second.certificate]), "client_certificates.1"),
        (json!([format!("{}{}", second.certificate, first.certificate)]), "client_certificates.0"),
        (json!([fingerprints[0]]), "client_certificates.0"),
        (json!(vec![&second.certificate; 11]), "client_certificates"),
    ] {
        let refused = world.post("owner", &path, body(bad)).await?;
        assert_eq!(refused.status, 422, "{}", refused.text);
        assert_eq!(refused.json["errors"][0]["field"], field, "{}", refused.text);
    }

    // What is there may be named by its fingerprint; what is taken away is free.
    let source = created.location.context("a location")?;
    let both = json!({"client_certificates": [fingerprints[0], second.certificate]});
    let changed = world.patch("owner", &source, both, &[]).await?;
    assert_eq!(changed.json["client_certificates"].as_array().map(Vec::len), Some(2));
    let none = json!({"client_certificates": []});
    assert_eq!(world.patch("owner", &source, none, &[]).await?.status, 200);
    let created =
        world.post("owner", &path, body(json!([first.certificate, second.certificate]))).await?;
    assert_eq!(created.status, 201, "{}", created.text);
    world.delete("owner", created.location.as_deref().context("a location")?, &[]).await?;
    assert_eq!(world.post("owner", &path, body(json!([first.certificate]))).await?.status, 201);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_written_down_and_what_came_in_is_shown() -> Result<()> {
    let world = World::new().await?;
    let environment = world.environment().await?;
    let source = world.log_source(&environment).await?;
    let path = format!("/v1/log-sources/{source}");
    for (change, disabled) in [
        (json!({"bytes_per_second": 2048, "disabled": true}), true),
        (json!({"disabled": true}), true),
        (json!({"disabled": false, "bytes_per_second": null}), false),
    ] {
        let changed = world.patch("admin", &path, change, &[]).await?;
        assert_eq!(changed.json["disabled_at"].is_string(), disabled, "{}", changed.text);
        assert_eq!(of_intake(&world).await?.map(|seen| seen.disabled), Some(disabled));
    }
    rotate(&world, &path, json!({"keep_old_seconds": 30})).await?;
    let activity = format!("/v1/environments/{environment}/activity");
    let told = world.get("viewer", &activity).await?.json["items"].clone();
    let told: Vec<(&str, &str)> = told
        .as_array()
        .context("items")?
        .iter()
        .map(|it| (it["action"].as_str().unwrap(), it["detail"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("log_source.rotated", "the old token is good for 30 s more"),
            ("log_source.enabled", ""),
            ("log_source.changed", "bytes_per_second"),
            ("log_source.disabled", ""),
            ("log_source.changed", "bytes_per_second"),
            ("log_source.created", "of an app"),
        ]
    );

    let intake = Store::connect(&world.database.intake_url()?, 2)?;
    let counts = SourceCounts {
        lines: 3,
        bytes: 300,
        refused: 1,
        last_refusal: Some("the token is wrong".to_owned()),
        ..SourceCounts::default()
    };
    intake.add_source_counts(&[(source.parse()?, counts)]).await?;
    let shown = world.get("viewer", &path).await?.json;
    let came = json!({"lines": 3, "bytes": 300});
    assert_eq!((&shown["last_minute"], &shown["last_hour"]), (&came, &came));
    assert_eq!((&shown["lines"], &shown["refused"]), (&json!(3), &json!(1)));
    assert_eq!(shown["last_refusal"], "the token is wrong");
    assert!(shown["last_line_at"].is_string() && shown["last_refused_at"].is_string());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_has_a_quota_of_all_its_sources() -> Result<()> {
    let world = World::new().await?;
    let environment = world.environment().await?;
    world.log_source(&environment).await?;
    let path = format!("/v1/environments/{environment}");
    for (change, status, quota) in [
        (json!({"intake_bytes_per_second": 4096}), 200, (Some(4096), None)),
        (json!({"intake_burst_bytes": 1 << 30}), 200, (Some(4096), Some(1 << 30))),
        (json!({"intake_burst_bytes": 1023}), 422, (Some(4096), Some(1 << 30))),
        (json!({"intake_bytes_per_second": null}), 200, (None, Some(1 << 30))),
    ] {
        let changed = world.patch("owner", &path, change, &[]).await?;
        assert_eq!(changed.status, status, "{}", changed.text);
        let token = world.token("owner");
        let shown = world.send(token, Method::GET, &path, None, &[]).await?.json;
        let shown =
            (shown["intake_bytes_per_second"].as_i64(), shown["intake_burst_bytes"].as_i64());
        assert_eq!(shown, quota);
        assert_eq!(of_intake(&world).await?.map(|seen| seen.environment_quota), Some(quota));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn command_line_makes_rotates_and_deletes_a_source() -> Result<()> {
    let world = World::new().await?;
    let environment = world.environment().await?;
    let app = world.get("owner", &format!("/v1/apps/{}", world.app(&environment).await?)).await?;
    let app = app.json["handle"].as_str().context("a handle")?;
    let run = async |arguments: &[&str]| -> Result<String> {
        let command = world.cli("admin", arguments)?;
        Ok(process::succeed(command, Duration::from_secs(30)).await?.text())
    };
    let token = |printed: &str| {
        let mut lines = printed.lines().map(str::trim);
        lines.find(|line| line.len() == 32 && line.starts_with('s')).map(str::to_owned)
    };
    let created = run(&["source", "create", "web-logs", "--app", app]).await?;
    let first = token(&created).context("a token on a line of its own")?;
    assert_eq!(created.matches(&first).count(), 4, "{created}");
    let seen = of_intake(&world).await?.context("a source")?;
    assert_eq!(seen.token.hash, sha256(&first));
    let listed = run(&["source", "list"]).await?;
    assert!(listed.contains("web-logs") && !listed.contains(&first), "{listed}");
    run(&["source", "disable", "web-logs"]).await?;
    assert!(of_intake(&world).await?.context("a source")?.disabled);
    run(&["source", "enable", "web-logs"]).await?;
    run(&["source", "update", "web-logs", "--bytes-per-second", "4096"]).await?;
    let rotated = run(&["source", "rotate", "web-logs", "--keep-old-seconds", "60"]).await?;
    let seen = of_intake(&world).await?.context("a source")?;
    assert_eq!(seen.token.hash, sha256(&token(&rotated).context("a token")?));
    assert_eq!((seen.disabled, seen.quota), (false, (Some(4096), None)));
    assert_eq!(seen.previous_token.map(|(token, _)| token.hash), Some(sha256(&first)));
    run(&["source", "delete", "web-logs", "--yes"]).await?;
    assert_eq!(of_intake(&world).await?, None);
    Ok(())
}
