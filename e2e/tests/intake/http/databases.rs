//! What databases write, over HTTP.

use anyhow::{Context as _, Result, ensure};
use model::{LogLine, Severity, Source};

use super::Http;
use crate::{World, text};

/// `log_destination = csvlog` of PostgreSQL 17: a statement of three lines with quotes in it, and a plain entry.
const CSV: &str = r#"2026-11-28 15:39:51.123 UTC,"ada","shop",4711,"10.0.0.7:51234",6745c1a7.1267,3,"SELECT",2026-11-28 15:39:50 UTC,5/12,0,ERROR,42P01,"relation ""orders"" does not exist",,,,,,"select *
  from ""orders""
  where id = 7;",15,,"psql","client backend",,0
2026-11-28 15:39:52.000 UTC,,,77,,6745c1a7.4d,1,,2026-11-28 15:39:50 UTC,,0,LOG,00000,"checkpoint starting: time",,,,,,,,,"","checkpointer",,0
"#;

/// Plain text with the prefix of Debian.
const PLAIN: &str = "2026-11-28 15:39:51.123 UTC [4711] ada@shop ERROR:  syntax error at or near \"form\" at character 10
2026-11-28 15:39:51.123 UTC [4711] ada@shop STATEMENT:  select *
\t  form orders
\t  where id = 7;
2026-11-28 15:39:52.000 UTC [77] LOG:  checkpoint starting: time
";

fn field<'a>(line: &'a LogLine, name: &str) -> Option<&'a str> {
    line.fields.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Lines that this body is to a source of the database.
async fn lines(body: &str) -> Result<Vec<LogLine>> {
    let world = World::new().await?;
    let source = world.database_source().await?;
    let http = Http::start(&world, &[]).await?;
    let plain = [("content-type", "text/plain")];
    http.post("/logs", &source, &plain, body).await?.is(200)?;
    for record in world.records().await? {
        let database = record.origin.database.as_ref().context("it is a database's")?;
        ensure!(database.id.uuid() == world.main && record.origin.source == Source::Database);
    }
    world.lines().await
}

#[tokio::test]
async fn a_statement_of_several_lines_in_csv_is_one_record() -> Result<()> {
    let lines = lines(CSV).await?;
    // Together they are what was sent.
    let texts: Vec<_> = lines.iter().map(text).collect();
    assert_eq!(texts.join("\n") + "\n", CSV);
    let [error, checkpoint] = lines.as_slice() else { anyhow::bail!("{texts:?}") };
    assert_eq!(text(error).lines().count(), 3);
    assert_eq!(
        (error.severity, checkpoint.severity),
        (Some(Severity::Error), Some(Severity::Info))
    );
    let named = ["user", "database", "pid", "sqlstate", "application_name"];
    let of = |line| named.map(|name| field(line, name));
    assert_eq!(of(error), ["ada", "shop", "4711", "42P01", "psql"].map(Some));
    assert_eq!(of(checkpoint), [None, None, Some("77"), None, None]);
    let sent_at = error.sent_at.context("it says when")?;
    assert_eq!(sent_at.to_string(), "2026-11-28T15:39:51.123Z");
    Ok(())
}

#[tokio::test]
async fn a_statement_of_several_lines_in_plain_text_is_one_record() -> Result<()> {
    let lines = lines(PLAIN).await?;
    let texts: Vec<_> = lines.iter().map(text).collect();
    assert_eq!(texts.join("\n") + "\n", PLAIN);
    let [error, statement, checkpoint] = lines.as_slice() else { anyhow::bail!("{texts:?}") };
    assert!(text(statement).ends_with("\n\t  where id = 7;"));
    for line in [error, statement] {
        // A statement is as severe as what it belongs to.
        assert_eq!(line.severity, Some(Severity::Error), "{line:?}");
        let named = ["user", "database", "pid"].map(|name| field(line, name));
        assert_eq!(named, ["ada", "shop", "4711"].map(Some));
    }
    assert_eq!(checkpoint.severity, Some(Severity::Info));
    Ok(())
}
