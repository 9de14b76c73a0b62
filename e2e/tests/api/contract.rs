//! openapi.yaml: in step with the code, and with what is really answered.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// The API's description.
pub(crate) struct Contract {
    description: Value,
}

impl Contract {
    pub(crate) fn read() -> Result<Self> {
        let mut description: Value = serde_json::from_str(&api::openapi_json()?)?;
        if let Some(schemas) = description["components"]["schemas"].as_object_mut() {
            schemas.values_mut().for_each(close);
        }
        Ok(Self { description })
    }

    /// Every operation, as `GET /path`.
    pub(crate) fn operations(&self) -> BTreeSet<String> {
        let paths = self.description["paths"].as_object().expect("paths");
        let of_path = |(path, item): (&String, &Value)| {
            let methods = item.as_object().expect("methods");
            methods.keys().map(|method| format!("{} {path}", method.to_uppercase())).collect()
        };
        paths.iter().flat_map(|entry| -> Vec<String> { of_path(entry) }).collect()
    }

    /// Whether an answer is one that the description tells of.
    pub(crate) fn check(
        &self,
        method: &str,
        path: &str,
        status: u16,
        content_type: Option<&str>,
        body: &Value,
    ) -> Result<()> {
        let path = path.split('?').next().unwrap_or_default();
        let paths = self.description["paths"].as_object().context("paths")?;
        let (_, item) =
            paths.iter().find(|(template, _)| fits(template, path)).context("no such path")?;
        let responses = &item[method.to_lowercase()]["responses"];
        let response = responses.get(status.to_string()).or_else(|| responses.get("default"));
        let response = response.context("no such status")?;
        if status < 400 && responses.get(status.to_string()).is_none() {
            bail!("a success that the description does not tell of");
        }
        let Some(content) = response["content"].as_object() else {
            anyhow::ensure!(body.is_null(), "a body that the description does not tell of");
            return Ok(());
        };
        let content_type = content_type.context("no content type")?;
        let described = content.get(content_type).context("another content type")?;
        if !content_type.ends_with("json") {
            return Ok(());
        }
        let mut schema = described["schema"].clone();
        close(&mut schema);
        let schema = json!({"allOf": [schema], "components": self.description["components"]});
        let validator = jsonschema::options().should_validate_formats(true).build(&schema)?;
        let errors: Vec<String> = validator
            .iter_errors(body)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        anyhow::ensure!(errors.is_empty(), "not as described: {}", errors.join("; "));
        Ok(())
    }
}

/// Lets objects have no fields but those that are described.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path) = (template.split('/'), path.split('/'));
    template.clone().count() == path.clone().count()
        && template.zip(path).all(|(wanted, is)| wanted.starts_with('{') || wanted == is)
}

#[test]
fn the_description_in_the_repository_is_what_the_code_says() -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi.yaml");
    let written = std::fs::read_to_string(file)?;
    anyhow::ensure!(
        written == api::openapi_yaml()?,
        "openapi.yaml is out of date: cargo run -p api -- openapi > openapi.yaml"
    );
    Ok(())
}
