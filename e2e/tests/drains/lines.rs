//! What receivers got, whatever the format, and whether it is all.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// A line as it was received.
#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    /// Its fields but the message, as text.
    pub(crate) fields: HashMap<String, String>,
    /// The message's bytes.
    pub(crate) message: Vec<u8>,
}

impl Delivered {
    pub(crate) fn of_json(line: &Value) -> Result<Self> {
        let object = line.as_object().context("a line is an object")?;
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mut fields: HashMap<_, _> =
            object.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let message = match fields.remove("message_base64") {
            Some(encoded) => STANDARD.decode(encoded)?,
            None => fields.get("message").context("a line has a message")?.clone().into_bytes(),
        };
        Ok(Self { fields, message })
    }

    /// RFC 5424 without the octet count.
    pub(crate) fn of_syslog(message: &[u8]) -> Result<Self> {
        let start = find(message, b" [spillway@32473").context("no structured data")?;
        let mut fields = HashMap::new();
        let header = std::str::from_utf8(&message[..start])?;
        for (name, value) in ["pri", "timestamp", "hostname", "app_name", "procid", "msgid"]
            .into_iter()
            .zip(header.split(' '))
        {
            fields.insert(format!("header.{name}"), value.to_owned());
        }
        let mut rest = &message[start + " [spillway@32473".len()..];
        while let Some(param) = rest.strip_prefix(b" ") {
            let equals = find(param, b"=\"").context("a parameter has a value")?;
            let name = std::str::from_utf8(&param[..equals])?.to_owned();
            let mut value = Vec::new();
            let mut at = equals + 2;
            while param[at] != b'"' {
                at += usize::from(param[at] == b'\\');
                value.push(param[at]);
                at += 1;
            }
            fields.insert(name, String::from_utf8(value)?);
            rest = &param[at + 1..];
        }
        let message = rest.strip_prefix(b"] ").context("structured data ends")?;
        Ok(Self { fields, message: message.to_vec() })
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.message).into_owned()
    }

    fn number(&self, name: &str) -> u64 {
        self.field(name).parse().unwrap_or(u64::MAX)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn output<'a>(
    producer: &'a str,
    delivered: &'a [Delivered],
) -> impl Iterator<Item = &'a Delivered> + use<'a> {
    delivered.iter().filter(move |line| {
        line.field("event") == "output" && line.field("id").starts_with(producer)
    })
}

/// How many bytes of the session's output were delivered without a gap.
pub(crate) fn covered(producer: &str, delivered: &[Delivered]) -> u64 {
    let mut spans: Vec<_> = output(producer, delivered)
        .map(|line| (line.number("offset"), line.number("offset") + line.number("length")))
        .collect();
    spans.sort_unstable();
    spans.iter().fold(0, |reach, (from, to)| if *from <= reach { reach.max(*to) } else { reach })
}

/// Checks that the lines together are `shown`, that they say what stands there, and that they came
/// in order, but for going back to repeat.
pub(crate) fn check(producer: &str, shown: &[u8], delivered: &[Delivered]) -> Result<()> {
    let reach = covered(producer, delivered);
    ensure!(reach == shown.len() as u64, "{reach} of {} bytes were delivered", shown.len());
    let mut next = 0;
    for line in output(producer, delivered) {
        let (offset, length) = (line.number("offset"), line.number("length"));
        ensure!(offset <= next, "a gap before offset {offset}; expected {next}");
        next = offset + length;
        let raw = &shown[usize::try_from(offset)?..usize::try_from(next)?];
        let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
        let text = raw.rsplit(|&byte| byte == b'\r').find(|part| !part.is_empty());
        ensure!(
            line.message == text.unwrap_or_default(),
            "offset {offset} says {:?}",
            String::from_utf8_lossy(&line.message)
        );
    }
    Ok(())
}
