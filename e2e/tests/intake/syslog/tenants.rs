//! What one tenant sends is its own.

use anyhow::Result;
use tokio::io::AsyncWriteExt as _;

use super::Syslog;
use crate::text;

#[tokio::test]
async fn lines_of_two_tenants_in_one_connection_land_in_their_own_environments() -> Result<()> {
    let syslog = Syslog::start().await?;
    let world = &syslog.world;
    let other = world.other_tenant().await?;
    let theirs = world.source_in(&other.environment, "app_id", other.app).await?;
    let mut connection = syslog.connect().await?;
    for _ in 0..20 {
        let (ours, theirs) = (syslog.token(), &theirs.token);
        let messages = format!("<13>1 - h {ours} - - - ours\n<13>1 - h {theirs} - - - theirs\n");
        connection.write_all(messages.as_bytes()).await?;
    }
    connection.shutdown().await?;
    for source in [&syslog.source, &theirs] {
        syslog.counts_until(source, |[lines, ..]| lines == 20).await?;
    }
    for (environment, app, wanted) in
        [(&world.environment, world.app, "ours"), (&other.environment, other.app, "theirs")]
    {
        let records = world.records_of(environment).await?;
        assert_eq!(records.len(), 20, "{wanted}");
        for record in records {
            assert_eq!(record.origin.environment, *environment);
            assert_eq!(record.origin.app.as_ref().map(|tag| tag.id.uuid()), Some(app));
            let model::Event::Line(line) = &record.event else { continue };
            assert_eq!(text(line), wanted);
        }
    }
    Ok(())
}
