//! Lines to the bytes of an endpoint's format (pure). One file per format.

pub(crate) mod json;
pub(crate) mod syslog;
mod time;

use crate::lines::Line;

/// A format's writer.
pub(crate) trait Encode: Send {
    /// Appends the line.
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<u8>);
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The fields that say where a line comes from, in every format under the same names.
fn origin_fields(origin: &model::Origin) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("source", origin.source.to_string()),
        ("environment", origin.environment.handle.to_string()),
        ("environment_id", origin.environment.id.to_string()),
    ];
    if let Some(app) = &origin.app {
        fields.extend([("app", app.handle.to_string()), ("app_id", app.id.to_string())]);
    }
    if let Some(database) = &origin.database {
        fields.push(("database", database.handle.to_string()));
        fields.push(("database_id", database.id.to_string()));
    }
    if let Some(session) = &origin.session {
        fields.push(("session_id", session.id.to_string()));
        fields.push(("user_id", session.user.to_string()));
        fields.push(("user_email", session.user_email.clone()));
        fields.push(("user_name", session.user_name.clone()));
    }
    fields
}

#[cfg(test)]
mod tests;
