//! Requests in, answers out: parses, calls `app`, renders. No SQL, no decisions.

use actix_web::web::{self, ServiceConfig};
use actix_web::{Resource, Route};

pub(crate) mod activity;
pub(crate) mod answer;
pub(crate) mod apps;
pub(crate) mod databases;
pub(crate) mod environments;
pub(crate) mod health;
pub(crate) mod log_drains;
pub(crate) mod log_sources;
pub(crate) mod logs;
pub(crate) mod me;
pub(crate) mod openapi;
pub(crate) mod page;
pub(crate) mod problem;
pub(crate) mod rejected_lines;
pub(crate) mod request;
pub(crate) mod sessions;
pub(crate) mod sign_in;
pub(crate) mod trace;

/// The app, as handlers get it.
type Shared = web::Data<crate::app::App>;

fn at(path: &str) -> Resource {
    web::resource(path).default_service(web::route().to(problem::method_not_allowed))
}

fn get() -> Route {
    web::get()
}

fn post() -> Route {
    web::post()
}

/// Every route.
pub(crate) fn routes(config: &mut ServiceConfig) {
    config
        .service(at("/livez").route(get().to(health::live)))
        .service(at("/readyz").route(get().to(health::ready)))
        .service(at("/openapi.yaml").route(get().to(health::yaml)))
        .service(at("/openapi.json").route(get().to(health::json)))
        .service(at("/v1/sign-in").route(post().to(sign_in::sign_in)))
        .service(at("/v1/sign-in/refresh").route(post().to(sign_in::refresh)))
        .service(at("/v1/sign-out").route(post().to(sign_in::sign_out)))
        .service(at("/v1/me").route(get().to(me::show)))
        .service(
            at("/v1/me/ssh-keys")
                .route(get().to(me::ssh_keys))
                .route(post().to(me::create_ssh_key)),
        )
        .service(at("/v1/me/ssh-keys/{id}").route(web::delete().to(me::delete_ssh_key)))
        .service(
            at("/v1/me/api-tokens")
                .route(get().to(me::api_tokens))
                .route(post().to(me::create_api_token)),
        )
        .service(at("/v1/me/api-tokens/{id}").route(web::delete().to(me::revoke_api_token)))
        .service(
            at("/v1/organizations/{organization}/environments")
                .route(get().to(environments::list))
                .route(post().to(environments::create)),
        )
        .service(at("/v1/environments").route(get().to(environments::list_all)))
        .service(
            at("/v1/environments/{id}")
                .route(get().to(environments::show))
                .route(web::patch().to(environments::update))
                .route(web::delete().to(environments::delete)),
        )
        .service(
            at("/v1/environments/{id}/apps")
                .route(get().to(apps::list))
                .route(post().to(apps::create)),
        )
        .service(
            at("/v1/apps/{id}")
                .route(get().to(apps::show))
                .route(web::patch().to(apps::update))
                .route(web::delete().to(apps::delete)),
        )
        .service(
            at("/v1/apps/{id}/configuration")
                .route(get().to(apps::configuration))
                .route(web::patch().to(apps::configure)),
        )
        .service(
            at("/v1/environments/{id}/databases")
                .route(get().to(databases::list))
                .route(post().to(databases::create)),
        )
        .service(
            at("/v1/databases/{id}")
                .route(get().to(databases::show))
                .route(web::patch().to(databases::update))
                .route(web::delete().to(databases::delete)),
        )
        .service(
            at("/v1/environments/{id}/log-drains")
                .route(get().to(log_drains::list))
                .route(post().to(log_drains::create)),
        )
        .service(
            at("/v1/log-drains/{id}")
                .route(get().to(log_drains::show))
                .route(web::patch().to(log_drains::update))
                .route(web::delete().to(log_drains::delete)),
        )
        .service(at("/v1/log-drains/{id}/pause").route(post().to(log_drains::pause)))
        .service(at("/v1/log-drains/{id}/resume").route(post().to(log_drains::resume)))
        .service(at("/v1/log-drains/{id}/test").route(post().to(log_drains::test)))
        .service(at("/v1/log-drains/{id}/verify").route(post().to(log_drains::verify_change)))
        .service(at("/v1/environments/{id}/log-drains/verify").route(post().to(log_drains::verify)))
        .service(at("/v1/log-drains/{id}/skip").route(post().to(log_drains::skip)))
        .service(at("/v1/log-drains/{id}/rejected-lines").route(get().to(rejected_lines::list)))
        .service(
            at("/v1/log-drains/{id}/rejected-lines/resend")
                .route(post().to(rejected_lines::resend)),
        )
        .service(
            at("/v1/environments/{id}/log-sources")
                .route(get().to(log_sources::list))
                .route(post().to(log_sources::create)),
        )
        .service(
            at("/v1/log-sources/{id}")
                .route(get().to(log_sources::show))
                .route(web::patch().to(log_sources::update))
                .route(web::delete().to(log_sources::delete)),
        )
        .service(at("/v1/log-sources/{id}/rotate").route(post().to(log_sources::rotate)))
        .service(at("/v1/environments/{id}/logs").route(get().to(logs::read)))
        .service(at("/v1/environments/{id}/activity").route(get().to(activity::list)))
        .service(at("/v1/environments/{id}/ephemeral-sessions").route(get().to(sessions::list)))
        .service(at("/v1/apps/{id}/ephemeral-sessions").route(post().to(sessions::open)))
        .service(at("/v1/ephemeral-sessions/{id}").route(get().to(sessions::show)));
}
