//! Notices to a web server of the customer's, as Standard Webhooks 1.0 says.
//!
//! `webhook-id` is the activity's id: the same when a notice is sent again.

use destinations::Credentials;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use model::{OpeningKey, Secret, Timestamp};
use serde_json::{Value, json};
use store::notices::ClaimedNotice;
use url::Url;

use crate::destination::{HttpClient, HttpConfigError, uri};
use crate::egress::Egress;
use crate::signing::Signer;
use crate::trace::Trace;

/// Posts a notice; an error is for the environment's owner.
pub(super) async fn send(
    notice: &ClaimedNotice,
    egress: &Egress,
    key: &OpeningKey,
) -> Result<(), String> {
    let url = notice.webhook_url.as_deref().and_then(|url| Url::parse(url).ok());
    let url = url.ok_or_else(|| HttpConfigError::Url.to_string())?;
    let said = |error: HttpConfigError| error.to_string();
    let mut client =
        HttpClient::new(&url, None, &Credentials::default(), egress.clone()).map_err(said)?;
    let body = body(notice).to_string().into_bytes();
    let id = notice.activity.id.to_string();
    let headers = match secret(notice, key)? {
        None => vec![("webhook-id", id)],
        Some(secret) => {
            client.mask(&secret);
            let signer = Signer::new(&secret).ok_or("the secret cannot sign: set it again")?;
            signer.headers(&id, &body).to_vec()
        }
    };
    let mut all = HeaderMap::new();
    all.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        let value = HeaderValue::try_from(value).map_err(|error| error.to_string())?;
        all.insert(HeaderName::from_static(name), value);
    }
    let uri = uri(&url).map_err(said)?;
    let answer = client.post(&uri, &all, body.into(), &mut Trace::default()).await;
    let answer = answer.map_err(|failure| failure.to_string())?;
    if answer.status.is_success() { Ok(()) } else { Err(client.said(&answer)) }
}

fn secret(notice: &ClaimedNotice, key: &OpeningKey) -> Result<Option<Secret<String>>, String> {
    let Some(sealed) = &notice.sealed_webhook_secret else { return Ok(None) };
    let unusable = "the secret cannot be opened: set it again";
    let opened = key.open(notice.activity.environment_id.uuid(), sealed).map_err(|_| unusable)?;
    let text = std::str::from_utf8(opened.expose()).map_err(|_| unusable)?;
    Ok(Some(Secret::new(text.to_owned())))
}

fn body(notice: &ClaimedNotice) -> Value {
    let row = &notice.activity;
    json!({
        "type": row.action,
        "timestamp": Timestamp::from_date_time(row.at).to_string(),
        "data": {
            "id": row.id,
            "environment": notice.environment_handle.as_str(),
            "environment_id": row.environment_id,
            "actor": row.actor,
            "target_kind": row.target_kind,
            "target_id": row.target_id,
            "target": row.target_handle,
            "detail": row.detail,
        }
    })
}
