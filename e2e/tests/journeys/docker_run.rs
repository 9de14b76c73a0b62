//! `platform app run` and `platform db run` say how to run a container whose log is recorded.

use anyhow::Result;
use e2e::platform::Platform;
use serde_json::json;

#[tokio::test]
async fn command_line_has_the_labels_that_the_intake_looks_for() -> Result<()> {
    let platform = Platform::with_app("acme/web:1", &[]).await?;
    let cli = platform.cli();
    let printed = cli.run(&["app", "run", "web", "--", "sh", "-c", "echo $X"]).await?.text();
    assert_eq!(
        printed,
        "docker run -d --label spillway.organization=acme --label spillway.environment=production \
         --label spillway.app=web acme/web:1 sh -c 'echo $X'\n"
    );
    cli.run(&["db", "create", "main", "--engine", "postgresql"]).await?;
    let line = cli.run(&["--json", "db", "run", "main", "--", "postgres:16"]).await?.text();
    let expected = json!([
        "docker",
        "run",
        "-d",
        "--label",
        "spillway.organization=acme",
        "--label",
        "spillway.environment=production",
        "--label",
        "spillway.database=main",
        "postgres:16"
    ]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&line)?, expected);
    let unknown = cli.finish(&["app", "run", "nothing"]).await?;
    assert!(!unknown.status.success() && unknown.text().is_empty(), "{unknown:?}");
    Ok(())
}
