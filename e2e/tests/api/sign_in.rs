//! Sign-in, tokens, and who is let in with them.

use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, PASSWORD, World, public_key};

async fn refresh(world: &World, token: &Value) -> Result<Answer> {
    let body = json!({"refresh_token": token});
    world.send(None, Method::POST, "/v1/sign-in/refresh", Some(body), &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_comes_again_ends_its_family() -> Result<()> {
    let world = World::new().await?;
    let first = world.sign_in("engineer", PASSWORD).await?.json;
    let other = world.sign_in("engineer", PASSWORD).await?.json;
    let second = refresh(&world, &first["refresh_token"]).await?;
    assert_eq!((second.status, second.json["token_type"].as_str()), (200, Some("Bearer")));
    assert_ne!(first["refresh_token"], second.json["refresh_token"]);

    let reused = refresh(&world, &first["refresh_token"]).await?;
    assert_eq!((reused.status, reused.problem()), (401, "refresh-failed"));
    let next = refresh(&world, &second.json["refresh_token"]).await?;
    assert_eq!(next.status, 401, "a thief's copy is dead, too");
    assert_eq!(refresh(&world, &other["refresh_token"]).await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_out_ends_the_sign_in() -> Result<()> {
    let world = World::new().await?;
    let tokens = world.sign_in("engineer", PASSWORD).await?.json;
    let body = json!({"refresh_token": tokens["refresh_token"]});
    for _ in 0..2 {
        let answer =
            world.send(None, Method::POST, "/v1/sign-out", Some(body.clone()), &[]).await?;
        assert_eq!(answer.status, 204);
    }
    assert_eq!(refresh(&world, &tokens["refresh_token"]).await?.status, 401);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_and_unknown_user_look_the_same() -> Result<()> {
    let world = World::new().await?;
    let wrong = world.sign_in("engineer", "wrong").await?;
    let unknown = world.sign_in("nobody", PASSWORD).await?;
    assert_eq!((wrong.status, unknown.status), (401, 401));
    assert_eq!(world.sign_in("\0", PASSWORD).await?.status, 401);
    for field in ["type", "title", "detail"] {
        assert_eq!(wrong.json[field], unknown.json[field]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_sign_ins_are_told_when_to_try_again() -> Result<()> {
    let world = World::with(|settings| {
        settings.api_sign_ins_per_email = 3.try_into().expect("not 0");
    })
    .await?;
    // The world itself has signed in once.
    for _ in 0..2 {
        assert_eq!(world.sign_in("engineer", "wrong").await?.status, 401);
    }
    let refused = world.sign_in("engineer", PASSWORD).await?;
    assert_eq!((refused.status, refused.problem()), (429, "too-many-requests"));
    let seconds: u64 = refused.retry_after.expect("Retry-After").parse()?;
    assert!((1..=21).contains(&seconds), "{seconds}");
    assert_eq!(world.sign_in("owner", PASSWORD).await?.status, 200, "others are not held up");

    let world = World::with(|settings| {
        settings.api_sign_ins_per_address = 7.try_into().expect("not 0");
    })
    .await?;
    assert_eq!(world.sign_in("viewer", PASSWORD).await?.status, 200);
    assert_eq!(world.sign_in("owner", PASSWORD).await?.status, 429);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn disabled_user_is_out_at_once() -> Result<()> {
    let world = World::new().await?;
    let tokens = world.sign_in("engineer", PASSWORD).await?.json;
    let token = world.post("engineer", "/v1/me/api-tokens", json!({"name": "ci"})).await?;
    let token = token.json["token"].as_str().expect("a token").to_owned();
    let admin = world.database.connect().await?;
    admin
        .execute("update users set disabled_at = now() where email = 'engineer@example.com'", &[])
        .await?;
    assert_eq!(world.get("engineer", "/v1/me").await?.status, 401);
    let answer = world.send(Some(&token), Method::GET, "/v1/me", None, &[]).await?;
    assert_eq!(answer.status, 401);
    assert_eq!(refresh(&world, &tokens["refresh_token"]).await?.status, 401);
    assert_eq!(world.sign_in("engineer", PASSWORD).await?.status, 401);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn api_token_speaks_for_its_user_until_revoked_or_expired() -> Result<()> {
    let world = World::new().await?;
    let created = world.post("auditor", "/v1/me/api-tokens", json!({"name": "ci"})).await?;
    let token = created.json["token"].as_str().expect("a token").to_owned();
    assert!(token.starts_with("spw_") && token.len() == 47, "{token}");
    let me = world.send(Some(&token), Method::GET, "/v1/me", None, &[]).await?.json;
    assert_eq!(me["email"], "auditor@example.com");
    assert_eq!(me["memberships"][0]["role"], "auditor");
    assert_eq!(me["memberships"][0]["handle"], "acme");
    let listed = world.get("auditor", "/v1/me/api-tokens").await?.json;
    assert!(listed["items"][0]["last_used_at"].is_string());

    // Another's token is not there for me.
    let path = created.location.expect("a location");
    assert_eq!(world.delete("viewer", &path, &[]).await?.status, 404);
    assert_eq!(world.delete("auditor", &path, &[]).await?.status, 204);
    let answer = world.send(Some(&token), Method::GET, "/v1/me", None, &[]).await?;
    assert_eq!((answer.status, answer.problem()), (401, "not-signed-in"));

    let past = json!({"name": "ci", "expires_at": "2020-01-01T00:00:00Z"});
    assert_eq!(world.post("auditor", "/v1/me/api-tokens", past).await?.status, 422);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_keys_are_checked_and_belong_to_one_user() -> Result<()> {
    let world = World::new().await?;
    let path = "/v1/me/ssh-keys";
    let line = public_key();
    let body = json!({"name": "laptop", "public_key": line});
    let created = world.post("engineer", path, body.clone()).await?;
    assert_eq!(created.status, 201);
    assert!(created.json["fingerprint"].as_str().is_some_and(|it| it.starts_with("SHA256:")));
    let again = world.post("viewer", path, body).await?;
    assert_eq!((again.status, again.problem()), (409, "key-registered"));

    let dss = "ssh-dss AAAAB3NzaC1kc3MAAAAJAQAAAAAAAAAHAAAACQEAAAAAAAAAAwAAAAECAAAAAQI=";
    let certificate = "ssh-ed25519-cert-v01@openssh.com AAAA";
    let private = "-----BEGIN OPENSSH PRIVATE KEY-----";
    for bad in ["", "x", "ssh-ed25519 AAAA", dss, certificate, private, "ssh-rsa\nAAAA"] {
        let body = json!({"name": "laptop", "public_key": bad});
        let answer = world.post("engineer", path, body).await?;
        assert_eq!(answer.status, 422, "{bad}");
        assert_eq!(answer.json["errors"][0]["field"], "public_key", "{bad}");
    }
    for (kind, bits, status) in [
        ("rsa", "1024", 422),
        ("rsa", "2048", 201),
        ("ecdsa", "256", 201),
        ("ecdsa", "384", 201),
        ("ecdsa", "521", 201),
        ("ed25519", "256", 201),
    ] {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("key");
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", kind, "-b", bits, "-N", "", "-f"])
            .arg(&file)
            .status()?;
        anyhow::ensure!(made.success(), "ssh-keygen -t {kind} -b {bits}");
        let line = std::fs::read_to_string(file.with_extension("pub"))?;
        let body = json!({"name": "laptop", "public_key": line});
        let answer = world.post("engineer", path, body).await?;
        assert_eq!(answer.status, status, "{kind} {bits}: {}", answer.text);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_in_the_authorization_header_is_anonymous() -> Result<()> {
    let world = World::new().await?;
    let good = world.token("owner").expect("a token").to_owned();
    let cut = good.get(..good.len() - 2).expect("ASCII").to_owned();
    for value in ["", "Bearer", "Bearer ", "Basic eDp5", &format!("Bearer {cut}"), "Bearer spw_x"] {
        let headers = [("authorization", value)];
        let answer = world.send(None, Method::GET, "/v1/me", None, &headers).await?;
        assert_eq!(answer.status, 401, "{value}");
    }
    Ok(())
}
