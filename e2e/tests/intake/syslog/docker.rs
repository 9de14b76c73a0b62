//! Docker's log driver.

use anyhow::Result;
use e2e::docker::{TestImage, docker};
use e2e::process;

use super::{Syslog, field};
use crate::{DEADLINE, text};

#[tokio::test]
async fn docker_sends_a_containers_output() -> Result<()> {
    let syslog = Syslog::start().await?;
    let image = TestImage::Busybox.ensure().await?;
    let token = syslog.token();
    let tcp = format!("syslog-address=tcp://127.0.0.1:{}", syslog.tcp);
    let udp = format!("syslog-address=udp://127.0.0.1:{}", syslog.udp);
    let unix = format!("syslog-address=unixgram://{}", syslog.unix().display());
    let (tag, named) = (format!("tag={token}"), format!("tag={token}/{{{{.Name}}}}"));
    let (new, micro) = ("syslog-format=rfc5424", "syslog-format=rfc5424micro");
    let ways = [
        [&tcp, &tag, "syslog-facility=daemon"],
        [&tcp, &named, new],
        [&tcp, &tag, "syslog-format=rfc3164"],
        [&udp, &named, micro],
        [&unix, &tag, "syslog-facility=daemon"],
    ];
    for (number, options) in ways.into_iter().enumerate() {
        let name = format!("spillway-test-syslog-{}-{number}", syslog.source.id);
        let mut run = docker(&["run", "--rm", "--network", "none", "--name", &name]);
        run.args(["--label", "spillway-test-syslog", "--log-driver", "syslog"]);
        run.args(options.into_iter().flat_map(|option| ["--log-opt", option]));
        run.args([&image, "sh", "-c", &format!("echo '  out {number}'; sleep 1; echo error >&2")]);
        process::succeed(run, DEADLINE).await?;
        let before = 2 * number;
        let lines = syslog.world.lines_until(before + 2).await?.split_off(before);
        assert_eq!(
            lines.iter().map(text).collect::<Vec<_>>(),
            [format!("  out {number}"), "error".to_owned()]
        );
        let severities = [Some(model::Severity::Info), Some(model::Severity::Error)];
        assert_eq!(lines.iter().map(|line| line.severity).collect::<Vec<_>>(), severities);
        for line in &lines {
            assert_eq!(field(line, "facility"), Some("daemon"));
            let is_named = options[1].contains('/');
            assert_eq!(field(line, "app_name"), is_named.then_some(name.as_str()));
            assert!(field(line, "procid").is_some());
            assert!(!format!("{line:?}").contains(token));
        }
    }
    Ok(())
}
