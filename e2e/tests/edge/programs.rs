//! Programs run as over OpenSSH's own server.

use anyhow::{Context as _, Result};
use e2e::docker::TestImage;
use e2e::process;
use e2e::terminal::Terminal;
use model::{Event, ExitStatus, OutputStream, TerminalSize};

use crate::fixture::{DEADLINE, Fixture, WEB, output, story};

#[tokio::test]
async fn exit_status_and_signal_reach_client_and_stream() -> Result<()> {
    let fixture = Fixture::start().await?;
    assert_eq!(fixture.run(&[], "true").await?.status.code(), Some(0));
    assert_eq!(fixture.run(&[], "exit 7").await?.status.code(), Some(7));
    // OpenSSH's client says 255 for a signal (RFC 4254, section 6.10, has no status then).
    assert_eq!(fixture.run(&[], "kill -TERM $$").await?.status.code(), Some(255));

    let sessions = fixture.sessions().await?;
    let mut exits = Vec::new();
    for session in &sessions {
        let records = fixture.records(*session).await?;
        assert_eq!(story(&records), ["session_started", "exec", "exit", "session_ended"]);
        exits.extend(records.into_iter().filter_map(|record| match record.event {
            Event::Exit(exit) => Some(exit),
            _ => None,
        }));
        assert_eq!(fixture.closed(*session).await?.0, "ended");
    }
    let signal = ExitStatus::Signal { name: "TERM".to_owned(), core_dumped: false };
    assert_eq!(exits, [ExitStatus::Code(0), ExitStatus::Code(7), signal]);
    Ok(())
}

#[tokio::test]
async fn first_record_says_who_where_and_how() -> Result<()> {
    let fixture = Fixture::start().await?;
    fixture.run(&["-o", "SetEnv=LC_TEST=1 EVIL=2"], "echo $LC_TEST/$EVIL").await?;
    let session = fixture.sessions().await?[0];
    let records = fixture.records(session).await?;
    assert_eq!(story(&records), ["session_started", "env", "exec", "exit", "session_ended"]);
    assert_eq!(output(&records, OutputStream::Stdout), b"1/\n");
    let first = records.first().context("no record")?;
    let tag = first.origin.session.as_ref().context("no session")?;
    assert_eq!((tag.user_email.as_str(), tag.user_name.as_str()), ("ada@acme.test", "Ada"));
    assert_eq!(first.origin.environment.handle.as_str(), "production");
    let Event::SessionStarted(started) = &first.event else { panic!("{:?}", first.event) };
    assert!(started.client_address.starts_with("127.0.0.1:"), "{started:?}");
    assert!(started.client_version.starts_with("SSH-2.0-OpenSSH"), "{started:?}");
    assert!(started.key_fingerprint.starts_with("SHA256:"), "{started:?}");
    assert_eq!(started.auth_method, "public_key");
    assert_eq!(started.image, TestImage::Busybox.ensure().await?);
    Ok(())
}

#[tokio::test]
async fn outputs_are_apart_and_in_both_places() -> Result<()> {
    let fixture = Fixture::start().await?;
    let finished = fixture.run(&[], "echo out; echo err >&2").await?;
    assert_eq!(finished.text(), "out\n");
    assert_eq!(finished.error_text(), "err\n");
    let records = fixture.records(fixture.sessions().await?[0]).await?;
    assert_eq!(output(&records, OutputStream::Stdout), b"out\n");
    assert_eq!(output(&records, OutputStream::Stderr), b"err\n");
    Ok(())
}

#[tokio::test]
async fn output_that_pauses_is_recorded_as_such_once() -> Result<()> {
    let fixture = Fixture::start().await?;
    let command = "printf 'name? '; sleep 4; echo Ada; sleep 2; printf 'end? '; exit";
    assert_eq!(fixture.run(&[], command).await?.text(), "name? Ada\nend? ");
    let records = fixture.records(fixture.sessions().await?[0]).await?;
    let told: Vec<_> = records.iter().map(|record| record.event.name()).collect();
    let expected = ["output", "pause", "output", "pause", "output", "exit", "session_ended"];
    assert_eq!(told[2..], expected);
    assert_eq!(records[3].event, Event::Pause { stream: OutputStream::Stdout });
    Ok(())
}

#[tokio::test]
async fn input_arrives_and_its_end_does_not_end_the_output() -> Result<()> {
    let fixture = Fixture::start().await?;
    let input: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let command = "cat > /tmp/f; wc -c < /tmp/f; sleep 0.2; md5sum < /tmp/f; cat /tmp/f | md5sum";
    let finished = fixture.run_with_input(&[], command, input.clone()).await?;
    let mut md5sum = tokio::process::Command::new("md5sum");
    md5sum.arg("-");
    let sum = process::finish_with_input(md5sum, input, DEADLINE).await?.text();
    assert_eq!(finished.text(), format!("12000000\n{sum}{sum}"), "{}", finished.error_text());
    Ok(())
}

#[tokio::test]
async fn terminal_has_size_echo_and_interrupt() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut terminal = Terminal::start(fixture.ssh.ssh(WEB, &[]), 100, 40)?;
    terminal.wait_for("/ # ", 1, DEADLINE).await?;
    terminal.type_in("stty size; echo $TERM; echo rea''dy\n")?;
    terminal.wait_for("40 100", 1, DEADLINE).await?;
    terminal.wait_for("ready", 1, DEADLINE).await?;
    terminal.resize(132, 50)?;
    // The size goes to the container while the program runs; asking again is the condition.
    e2e::wait::until_true("the new size arrives", DEADLINE, async || {
        terminal.type_in("stty size\n")?;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        Ok(terminal.text().contains("50 132"))
    })
    .await?;
    // It says so itself, so that it is in the foreground when it is interrupted.
    terminal.type_in("sh -c 'echo slee''ping; exec sleep 100'\n")?;
    terminal.wait_for("sleeping", 1, DEADLINE).await?;
    terminal.type_in("\x03")?;
    terminal.wait_for("^C", 1, DEADLINE).await?;
    terminal.type_in("echo interrupted $((6 * 7)); exit 5\n")?;
    terminal.wait_for("interrupted 42", 1, DEADLINE).await?;
    assert_eq!(terminal.ended(DEADLINE).await?.code(), Some(5));

    let records = fixture.records(fixture.sessions().await?[0]).await?;
    assert_eq!(story(&records)[..3], ["session_started", "pty", "shell"]);
    let resize = Event::Resize { size: TerminalSize { columns: 132, rows: 50 } };
    assert!(records.iter().any(|record| record.event == resize));
    let shown = String::from_utf8(output(&records, OutputStream::Stdout))?;
    assert!(terminal.text().starts_with(&shown), "the record is what was shown:\n{shown}");
    Ok(())
}

#[tokio::test]
async fn two_sessions_over_one_connection_are_two_containers() -> Result<()> {
    let fixture = Fixture::start().await?;
    let socket = fixture.folder.path().join("control");
    let control = format!("ControlPath={}", socket.display());
    let options = ["-o", "ControlMaster=auto", "-o", "ControlPersist=yes", "-o", &control];
    let first = fixture.run(&options, "hostname; echo one > /tmp/mine; sleep 3; cat /tmp/mine");
    let second = async {
        e2e::wait::until_true("the first connection", DEADLINE, async || Ok(socket.exists()))
            .await?;
        fixture.run(&options, "cat /tmp/mine || echo not mine").await
    };
    let (first, second) = tokio::try_join!(first, second)?;
    let mut stop = fixture.ssh.ssh(WEB, &["-O", "exit", "-o", &control]);
    stop.stdout(std::process::Stdio::null());
    process::finish(stop, DEADLINE).await?;
    assert_eq!(first.text(), "web\none\n", "{}", first.error_text());
    assert_eq!(second.text(), "not mine\n", "{}", second.error_text());
    let sessions = fixture.sessions().await?;
    assert_eq!(sessions.len(), 2);
    for session in sessions {
        fixture.records(session).await?;
    }
    Ok(())
}

#[tokio::test]
async fn app_variables_are_set_and_image_user_is_kept() -> Result<()> {
    let fixture = Fixture::start().await?;
    let sealed = fixture.opening_key.sealing_key().seal(fixture.app.uuid(), b"s3cret value");
    let statement =
        "insert into app_variables (app_id, name, sealed_value) values ($1, 'TOKEN', $2)";
    fixture.client.execute(statement, &[&fixture.app.uuid(), &sealed]).await?;
    let image = TestImage::Unprivileged.ensure().await?;
    fixture.client.execute("update apps set image = $1", &[&image]).await?;
    let finished = fixture.run(&[], "echo \"$TOKEN\"; id -un; pwd").await?;
    assert_eq!(finished.text(), "s3cret value\napp\n/home/app\n", "{}", finished.error_text());
    Ok(())
}

#[tokio::test]
async fn container_has_few_rights_and_the_environments_limits() -> Result<()> {
    let fixture = Fixture::start().await?;
    let limits = "update environments set pids_limit = 20, memory_limit_bytes = 67108864";
    fixture.client.execute(limits, &[]).await?;
    let status = fixture.run(&[], "grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status").await?;
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID.
    assert_eq!(status.text(), "CapBnd:\t00000000000000fb\nNoNewPrivs:\t1\n");
    let forks = "for i in $(seq 30); do sleep 5 & done 2>&1; wait";
    assert!(fixture.run(&[], forks).await?.text().contains("fork"));
    let hungry = fixture.run(&[], "tail -c 200000000 /dev/zero | wc -c").await?;
    assert_ne!(hungry.text(), "200000000\n");
    Ok(())
}

#[tokio::test]
async fn containers_on_the_sessions_network_do_not_reach_one_another() -> Result<()> {
    let network = format!("spillway-test-{}", uuid::Uuid::new_v4().simple());
    let mut fixture = Fixture::start_with(&["--ssh-session-network", &network]).await?;
    let address = "ip -4 -o addr show eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/'";
    let first = fixture.ssh.ssh(WEB, &[]);
    let mut terminal = Terminal::start(first, 80, 24)?;
    terminal.wait_for("/ # ", 1, DEADLINE).await?;
    terminal.type_in(&format!("echo address=$({address})=; nc -l -p 9999\n"))?;
    let first = e2e::wait::until("its address", DEADLINE, async || {
        let text = terminal.text();
        let address = text.split("address=").nth(2).and_then(|rest| rest.split_once('='));
        Ok(address.map(|(address, _)| address.to_owned()))
    })
    .await?;
    let probe = format!("{address}; nc -w 2 {first} 9999 </dev/null && echo reached");
    let second = fixture.run(&[], &probe).await?;
    assert!(!second.text().contains("reached"), "{}", second.text());
    assert_ne!(second.text().trim(), first);
    terminal.type_in("\x03exit\n")?;
    terminal.ended(DEADLINE).await?;
    fixture.edge.stop(rustix::process::Signal::TERM, DEADLINE).await?;
    let inspect = e2e::docker::docker(&["network", "inspect", &network]);
    let inspect = process::finish(inspect, DEADLINE).await?;
    assert!(!inspect.status.success(), "the network is left: {}", inspect.text());
    Ok(())
}
