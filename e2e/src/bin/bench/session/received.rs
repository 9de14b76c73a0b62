//! How long a typed line takes to the endpoint of a log drain, recorded and shown on its way.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::BytesMut;
use e2e::terminal::start_on_terminal;
use e2e::tls_sink::take_message;
use tokio::io::AsyncReadExt as _;

use super::{DEADLINE, OURS, Table, Target, World};
use crate::report::percentile;
use crate::tls_receiver::{Connection, TlsReceiver};

/// Between two lines, so that everything comes to rest.
const PAUSE: Duration = Duration::from_millis(20);
/// Stands before the number of each line.
const MARK: &str = "typed line ";

/// Types so many lines, the next one when the last one has come.
pub(super) async fn measure(world: &World, lines: usize, table: &mut Table) -> Result<()> {
    let p50 =
        table.row("line typed to line at a drain's receiver, p50", "ms", &[Target::AtMost(20.0)]);
    let p99 =
        table.row("line typed to line at a drain's receiver, p99", "ms", &[Target::AtMost(100.0)]);
    let (sender, numbers) = channel();
    let receiver =
        TlsReceiver::start(move |connection| receive(connection, sender.clone())).await?;
    let ca = world.services.folder().join("receiver-ca.pem");
    std::fs::write(&ca, &receiver.authority)?;
    let (port, ca) = (receiver.port.to_string(), ca.display().to_string());
    let place = ["--environment", "production"];
    let create = ["drain", "create", "syslog", "received", "--host", "localhost", "--port", &port];
    let cli = world.services.cli();
    cli.run(&[&create[..], &["--ca-file", &ca], &place].concat()).await?;

    let mut ssh = world.ours()?.ssh(&["-tt"]);
    ssh.arg("exec cat > /dev/null");
    let (mut child, terminal) = start_on_terminal(ssh, 80, 24)?;
    let typing = move || type_lines(terminal, lines, &numbers);
    let millis = tokio::task::spawn_blocking(typing).await??;
    tokio::time::timeout(DEADLINE, child.wait()).await.context("the session does not end")??;
    cli.run(&[&["drain", "delete", "received", "--yes"][..], &place].concat()).await?;
    for (row, share) in [(p50, 0.5), (p99, 0.99)] {
        table.add(row, OURS, percentile(&millis, share).context("lines were typed")?);
    }
    Ok(())
}

fn type_lines(
    terminal: OwnedFd,
    lines: usize,
    numbers: &Receiver<(usize, Instant)>,
) -> Result<Vec<f64>> {
    let mut terminal = File::from(terminal);
    let mut screen = terminal.try_clone()?;
    // As a terminal does: nothing waits for what is shown.
    let shown = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while matches!(screen.read(&mut buffer), Ok(1..)) {}
    });
    let mut millis = Vec::with_capacity(lines);
    // The first one shows that the session is there and that the drain is connected.
    for number in 0..=lines {
        sleep(PAUSE);
        let begun = Instant::now();
        write!(terminal, "{MARK}{number}\r")?;
        loop {
            let (come, at) = numbers.recv_timeout(DEADLINE).context("the line does not come")?;
            if come == number {
                millis.push((at - begun).as_secs_f64() * 1e3);
                break;
            }
        }
    }
    millis.remove(0);
    // The end of `cat`'s input.
    terminal.write_all(&[4])?;
    drop(shown.join());
    Ok(millis)
}

async fn receive(mut stream: Connection, numbers: Sender<(usize, Instant)>) -> Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(message) = take_message(&mut buffer)? {
            let text = String::from_utf8_lossy(&message).into_owned();
            if let Some((_, number)) = text.split_once(MARK) {
                numbers.send((number.trim().parse()?, Instant::now()))?;
            }
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}
