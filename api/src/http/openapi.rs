//! The API's description, made from the handlers.

use std::collections::BTreeMap;

use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi};

use crate::http::{
    activity, apps, databases, environments, health, log_drains, log_sources, logs, me, problem,
    rejected_lines, sessions, sign_in,
};

/// Every failure of every operation.
pub(crate) struct Failure;

impl IntoResponses for Failure {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let schema = Ref::from_schema_name("Problem");
        let response = ResponseBuilder::new()
            .description("It was not done; the problem says why (RFC 9457).")
            .content("application/problem+json", ContentBuilder::new().schema(Some(schema)).build())
            .build();
        BTreeMap::from([("default".to_owned(), response.into())])
    }
}

/// The header of a change that must not undo another's.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "describes a header")]
pub(crate) struct IfMatch {
    /// The ETag that was last seen: if there is a newer one, nothing is changed and the answer is 412.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
}

struct BearerTokens;

impl Modify for BearerTokens {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some("An access token, or an API token (`spw_...`).".to_owned());
        openapi
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Spillway",
        version = "1",
        description = "Environments, apps, databases, log sources, log drains and ephemeral sessions. Things of \
            organizations that the caller is no member of are 404.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    modifiers(&BearerTokens),
    security(("bearer" = [])),
    components(schemas(problem::Body)),
    paths(
        health::live, health::ready, health::yaml, health::json,
        sign_in::sign_in, sign_in::refresh, sign_in::sign_out,
        me::show, me::ssh_keys, me::create_ssh_key, me::delete_ssh_key,
        me::api_tokens, me::create_api_token, me::revoke_api_token,
        environments::list_all, environments::list, environments::create,
        environments::show, environments::update, environments::delete,
        apps::list, apps::create, apps::show, apps::update, apps::delete,
        apps::configuration, apps::configure,
        databases::list, databases::create, databases::show, databases::update, databases::delete,
        log_drains::list, log_drains::create, log_drains::show, log_drains::update,
        log_drains::delete, log_drains::pause, log_drains::resume, log_drains::skip,
        log_drains::test, log_drains::verify, log_drains::verify_change, rejected_lines::list,
        rejected_lines::resend,
        log_sources::list, log_sources::create, log_sources::show, log_sources::update,
        log_sources::delete, log_sources::rotate,
        logs::read,
        activity::list,
        sessions::list, sessions::open, sessions::show,
    )
)]
struct Description;

/// The API's description in the OpenAPI format.
pub fn openapi_yaml() -> Result<String, DescriptionError> {
    Description::openapi().to_yaml().map_err(|error| DescriptionError(error.to_string()))
}

/// The API's description in the OpenAPI format, as JSON.
pub fn openapi_json() -> Result<String, DescriptionError> {
    Description::openapi().to_json().map_err(|error| DescriptionError(error.to_string()))
}

/// The description could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the API's description cannot be written out: {0}")]
pub struct DescriptionError(String);
