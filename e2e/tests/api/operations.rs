//! Who may do what: every operation of openapi.yaml, asked by everybody.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use model::Handle;
use reqwest::Method;
use serde_json::{Value, json};

use crate::contract::Contract;
use crate::world::{PASSWORD, World, public_key, random_handle, syslog_drain};

const CALLERS: [&str; 7] =
    ["anonymous", "stranger", "owner", "admin", "engineer", "auditor", "viewer"];

/// What each of [`CALLERS`] is answered.
type Expected = [u16; 7];

const OPEN: Expected = [200; 7];
const OPEN_EMPTY: Expected = [204; 7];
const OWN: Expected = [401, 200, 200, 200, 200, 200, 200];
const OWN_CREATED: Expected = [401, 201, 201, 201, 201, 201, 201];
const OWN_DELETED: Expected = [401, 204, 204, 204, 204, 204, 204];
const READ: Expected = [401, 404, 200, 200, 200, 200, 200];
const CREATE: Expected = [401, 404, 201, 201, 403, 403, 403];
const CHANGE: Expected = [401, 404, 200, 200, 403, 403, 403];
const DELETE: Expected = [401, 404, 204, 204, 403, 403, 403];

const TABLE: &[(&str, Expected)] = &[
    ("GET /livez", OPEN_EMPTY),
    ("GET /readyz", OPEN_EMPTY),
    ("GET /openapi.yaml", OPEN),
    ("GET /openapi.json", OPEN),
    ("POST /v1/sign-in", OPEN),
    ("POST /v1/sign-in/refresh", OPEN),
    ("POST /v1/sign-out", OPEN_EMPTY),
    ("GET /v1/me", OWN),
    ("GET /v1/me/ssh-keys", OWN),
    ("POST /v1/me/ssh-keys", OWN_CREATED),
    ("DELETE /v1/me/ssh-keys/{id}", OWN_DELETED),
    ("GET /v1/me/api-tokens", OWN),
    ("POST /v1/me/api-tokens", OWN_CREATED),
    ("DELETE /v1/me/api-tokens/{id}", OWN_DELETED),
    ("GET /v1/environments", OWN),
    ("GET /v1/organizations/{organization}/environments", READ),
    ("POST /v1/organizations/{organization}/environments", CREATE),
    ("GET /v1/environments/{id}", READ),
    ("PATCH /v1/environments/{id}", CHANGE),
    ("DELETE /v1/environments/{id}", DELETE),
    ("GET /v1/environments/{id}/apps", READ),
    ("POST /v1/environments/{id}/apps", CREATE),
    ("GET /v1/apps/{id}", READ),
    ("PATCH /v1/apps/{id}", CHANGE),
    ("DELETE /v1/apps/{id}", DELETE),
    ("GET /v1/apps/{id}/configuration", [401, 404, 200, 200, 200, 403, 403]),
    ("PATCH /v1/apps/{id}/configuration", CHANGE),
    ("GET /v1/environments/{id}/databases", READ),
    ("POST /v1/environments/{id}/databases", CREATE),
    ("GET /v1/databases/{id}", READ),
    ("PATCH /v1/databases/{id}", CHANGE),
    ("DELETE /v1/databases/{id}", DELETE),
    ("GET /v1/environments/{id}/log-drains", READ),
    ("POST /v1/environments/{id}/log-drains", CREATE),
    ("GET /v1/log-drains/{id}", READ),
    ("PATCH /v1/log-drains/{id}", CHANGE),
    ("DELETE /v1/log-drains/{id}", DELETE),
    ("POST /v1/log-drains/{id}/pause", CHANGE),
    ("POST /v1/log-drains/{id}/resume", CHANGE),
    ("POST /v1/log-drains/{id}/test", CHANGE),
    ("POST /v1/log-drains/{id}/verify", CHANGE),
    ("POST /v1/environments/{id}/log-drains/verify", CHANGE),
    ("POST /v1/log-drains/{id}/skip", CHANGE),
    ("GET /v1/log-drains/{id}/rejected-lines", [401, 404, 200, 200, 403, 200, 403]),
    ("POST /v1/log-drains/{id}/rejected-lines/resend", [401, 404, 202, 202, 403, 403, 403]),
    ("GET /v1/environments/{id}/log-sources", READ),
    ("POST /v1/environments/{id}/log-sources", CREATE),
    ("GET /v1/log-sources/{id}", READ),
    ("PATCH /v1/log-sources/{id}", CHANGE),
    ("DELETE /v1/log-sources/{id}", DELETE),
    ("POST /v1/log-sources/{id}/rotate", CHANGE),
    ("GET /v1/environments/{id}/logs", [401, 404, 200, 200, 200, 200, 403]),
    ("GET /v1/environments/{id}/activity", READ),
    ("GET /v1/environments/{id}/ephemeral-sessions", [401, 404, 200, 200, 200, 200, 403]),
    ("POST /v1/apps/{id}/ephemeral-sessions", [401, 404, 201, 201, 201, 403, 403]),
    // The session is the owner's: an engineer sees own ones only, and others do not exist.
    ("GET /v1/ephemeral-sessions/{id}", [401, 404, 200, 200, 404, 200, 403]),
];

#[test]
fn the_table_has_every_operation() -> Result<()> {
    let listed: BTreeSet<String> = TABLE.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(listed, Contract::read()?.operations());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_what_the_table_says_and_nothing_else() -> Result<()> {
    let world = World::new().await?;
    world.worker()?;
    let mut wrong = Vec::new();
    for (operation, expected) in TABLE {
        // Again and again: one that has not been seen for a while is dead.
        world.edge().await?;
        for (caller, expected) in CALLERS.into_iter().zip(expected) {
            let status = ask(&world, operation, caller)
                .await
                .with_context(|| format!("{operation} as {caller}"))?;
            if status != *expected {
                wrong.push(format!("{operation} as {caller}: {status}, not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

async fn ask(world: &World, operation: &str, caller: &str) -> Result<u16> {
    let (method, template) = operation.split_once(' ').context("METHOD /path")?;
    let path = fill(world, template, caller).await?;
    let body = body(world, operation, &path).await?;
    let method: Method = method.parse()?;
    Ok(world.send(world.token(caller), method, &path, body, &[]).await?.status)
}

/// A path to something new, so that no question disturbs another.
async fn fill(world: &World, template: &str, caller: &str) -> Result<String> {
    if template.contains("{organization}") {
        return Ok(template.replace("{organization}", &world.organization.to_string()));
    }
    let Some((collection, _)) = template.split_once("/{id}") else {
        return Ok(template.to_owned());
    };
    // What a caller owns is made by the caller; somebody else's by the owner.
    let own = if caller == "anonymous" { "owner" } else { caller };
    let id = match collection {
        "/v1/me/ssh-keys" => {
            let body = json!({"name": "laptop", "public_key": public_key()});
            world.post(own, collection, body).await?.id().to_owned()
        }
        "/v1/me/api-tokens" => {
            world.post(own, collection, json!({"name": "ci"})).await?.id().to_owned()
        }
        "/v1/environments" => world.environment().await?,
        "/v1/apps" => world.app(&world.environment().await?).await?,
        "/v1/databases" => world.database(&world.environment().await?).await?,
        "/v1/log-drains" => world.drain(&world.environment().await?).await?,
        "/v1/log-sources" => world.log_source(&world.environment().await?).await?,
        "/v1/ephemeral-sessions" => {
            let app = world.app(&world.environment().await?).await?;
            let path = format!("/v1/apps/{app}/ephemeral-sessions");
            let granted = world.post("owner", &path, json!({"public_key": public_key()})).await?;
            granted.json["session"]["id"].as_str().context("a session")?.to_owned()
        }
        other => anyhow::bail!("nothing is known to make for {other}"),
    };
    Ok(template.replace("{id}", &id))
}

async fn body(world: &World, operation: &str, path: &str) -> Result<Option<Value>> {
    let handle: Handle = random_handle().parse()?;
    Ok(Some(match operation {
        "POST /v1/sign-in" => json!({"email": "viewer@example.com", "password": PASSWORD}),
        "POST /v1/sign-in/refresh" | "POST /v1/sign-out" => {
            let signed_in = world.sign_in("viewer", PASSWORD).await?;
            json!({"refresh_token": signed_in.json["refresh_token"]})
        }
        "POST /v1/me/ssh-keys" => json!({"name": "laptop", "public_key": public_key()}),
        "POST /v1/me/api-tokens" => json!({"name": "ci"}),
        "POST /v1/organizations/{organization}/environments" => json!({"handle": handle}),
        "PATCH /v1/environments/{id}" => json!({"pids_limit": 99}),
        "POST /v1/environments/{id}/apps" => json!({"handle": handle, "image": "busybox"}),
        "PATCH /v1/apps/{id}" => json!({"command": ["sh", "-l"]}),
        "PATCH /v1/apps/{id}/configuration" => json!({"variables": {"A": "1", "B": null}}),
        "POST /v1/environments/{id}/databases" => json!({"handle": handle, "engine": "redis"}),
        "PATCH /v1/databases/{id}" => json!({"engine": "other"}),
        "POST /v1/environments/{id}/log-drains"
        | "POST /v1/environments/{id}/log-drains/verify" => syslog_drain(),
        "POST /v1/log-drains/{id}/rejected-lines/resend" => json!({}),
        "PATCH /v1/log-drains/{id}" | "POST /v1/log-drains/{id}/verify" => {
            json!({"drain_apps": true})
        }
        "POST /v1/environments/{id}/log-sources" => {
            let environment = path.split('/').nth(3).context("an environment")?;
            json!({"handle": handle, "database_id": world.database(environment).await?})
        }
        "PATCH /v1/log-sources/{id}" => json!({"disabled": true}),
        "POST /v1/log-sources/{id}/rotate" => json!({"keep_old_seconds": 5}),
        "POST /v1/apps/{id}/ephemeral-sessions" => {
            json!({"public_key": public_key(), "reason": "to test"})
        }
        _ => return Ok(None),
    }))
}
