//! From handles, which people type, to ids, which the API takes.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;

use crate::client::Client;

/// Which environment.
#[derive(Debug, Clone, Args)]
pub(crate) struct EnvironmentChoice {
    /// The environment's handle; may be left out where you have one environment only.
    #[arg(long, short = 'e', value_name = "HANDLE", env = "SPILLWAY_ENVIRONMENT")]
    pub(crate) environment: Option<String>,
    /// The organization's handle; needed where several of yours have an environment of that name.
    #[arg(long, short = 'o', value_name = "HANDLE", env = "SPILLWAY_ORGANIZATION")]
    pub(crate) organization: Option<String>,
}

impl EnvironmentChoice {
    /// The environment, as the API shows it.
    pub(crate) async fn find(&self, client: &Client) -> Result<Value> {
        let query: Vec<(&str, &str)> =
            self.environment.iter().map(|handle| ("handle", handle.as_str())).collect();
        let mut found = client.list(&["environments"], &query).await?;
        if let Some(handle) = &self.environment {
            found.retain(|item| field(item, "handle") == handle);
        }
        if let Some(organization) = &self.organization {
            let organization = organization_id(client, Some(organization)).await?;
            found.retain(|item| field(item, "organization_id") == organization);
        }
        match (found.len(), &self.environment) {
            (1, _) => Ok(found.swap_remove(0)),
            (0, Some(handle)) => bail!("there is no environment {handle}"),
            (0, None) => {
                bail!("you have no environment; create one with: platform env create HANDLE")
            }
            (_, Some(handle)) => {
                bail!(
                    "several organizations have an environment {handle}: name one with --organization"
                )
            }
            (_, None) => {
                bail!("which environment? name one with --environment: {}", handles(&found))
            }
        }
    }

    /// The environment's id.
    pub(crate) async fn id(&self, client: &Client) -> Result<String> {
        Ok(field(&self.find(client).await?, "id").to_owned())
    }

    /// The thing with this handle in the environment; `collection` is its place in the API.
    pub(crate) async fn child(
        &self,
        client: &Client,
        collection: &str,
        handle: &str,
    ) -> Result<Value> {
        let environment = self.find(client).await?;
        let path = ["environments", field(&environment, "id"), collection];
        let mut found = client.list(&path, &[("handle", handle)]).await?;
        found.retain(|item| field(item, "handle") == handle);
        let Some(item) = found.pop() else {
            let noun = collection.trim_end_matches('s').replace('-', " ");
            bail!("there is no {noun} {handle} in {}", field(&environment, "handle"));
        };
        Ok(item)
    }
}

/// The id of the organization with this handle, or of the only one.
pub(crate) async fn organization_id(client: &Client, handle: Option<&str>) -> Result<String> {
    let mut me = client.get(&["me"]).await?.body;
    let memberships = me.get_mut("memberships").map(Value::take);
    let Some(Value::Array(memberships)) = memberships else {
        bail!("the API did not say which organizations you are in");
    };
    let mut found = memberships;
    if let Some(handle) = handle {
        found.retain(|membership| field(membership, "handle") == handle);
    }
    match (found.len(), handle) {
        (1, _) => Ok(field(&found.swap_remove(0), "organization_id").to_owned()),
        (0, Some(handle)) => bail!("you are in no organization {handle}"),
        (0, None) => bail!("you are in no organization; an owner has to add you"),
        _ => bail!("which organization? name one with --organization: {}", handles(&found)),
    }
}

/// A text of an answer; empty where there is none.
pub(crate) fn field<'a>(item: &'a Value, name: &str) -> &'a str {
    item.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn handles(items: &[Value]) -> String {
    let mut handles: Vec<&str> = items.iter().map(|item| field(item, "handle")).collect();
    handles.sort_unstable();
    handles.dedup();
    handles.join(", ")
}
