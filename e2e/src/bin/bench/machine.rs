//! Where the figures come from: the machine, how busy it was, and the rivals' versions.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use e2e::process;
use serde_json::{Value, json};
use tokio::process::Command;

const DEADLINE: Duration = Duration::from_secs(10);

/// What the report says about the machine.
#[derive(Debug)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    memory_gib: u64,
    kernel: String,
    load_average: String,
    versions: Vec<(&'static str, String)>,
    rounds: usize,
}

impl Machine {
    /// Looks at the machine as it is before anything is measured.
    pub(crate) async fn look(rounds: usize) -> Result<Self> {
        let field = |file: &str, name: &str| -> Result<String> {
            let text = std::fs::read_to_string(file)?;
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            Ok(line.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned())
        };
        let memory = field("/proc/meminfo", "MemTotal:")?;
        let memory: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let mut versions = Vec::new();
        for (name, command) in [
            ("OpenSSH", ["ssh", "-V"].as_slice()),
            ("Docker Engine", &["docker", "version", "--format", "{{.Server.Version}}"]),
            ("rsyslog", &["rsyslogd", "-v"]),
            ("PostgreSQL", &["psql", "--version"]),
        ] {
            versions.push((name, version(command).await));
        }
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor: field("/proc/cpuinfo", "model name")?,
            memory_gib: memory.div_ceil(1 << 20),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load_average: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
            versions,
            rounds,
        })
    }

    /// One sentence.
    pub(crate) fn to_markdown(&self) -> String {
        let Self { cores, processor, memory_gib, kernel, load_average, rounds, .. } = self;
        let versions: Vec<_> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        format!(
            "{cores} cores of {processor}, {memory_gib} GiB, Linux {kernel}; load average before: \
             {load_average}; {}. Medians of {rounds} interleaved rounds (least–most).",
            versions.join(", ")
        )
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let versions: serde_json::Map<_, _> = self
            .versions
            .iter()
            .map(|(name, version)| ((*name).to_owned(), Value::from(version.clone())))
            .collect();
        json!({
            "cores": self.cores,
            "processor": self.processor,
            "memory_gib": self.memory_gib,
            "kernel": self.kernel,
            "load_average_before": self.load_average,
            "versions": versions,
            "rounds": self.rounds,
        })
    }
}

/// The first word of the first line that has a digit in it; `-` if the program is not there.
async fn version(command: &[&str]) -> String {
    let Some((program, arguments)) = command.split_first() else { return "-".to_owned() };
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", SEARCH_PATH);
    let Ok(finished) = process::finish(command, DEADLINE).await else { return "-".to_owned() };
    let said = finished.text() + &finished.error_text();
    let word = said.split_whitespace().find(|word| word.contains(|c: char| c.is_ascii_digit()));
    let word = word.unwrap_or("-").trim_end_matches(',');
    word.trim_start_matches(|c: char| !c.is_ascii_digit()).to_owned()
}

/// With the servers, which are not on the path of an ordinary user.
pub(crate) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Fails, with what to install, unless these programs are there.
pub(crate) fn need(programs: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| {
            !SEARCH_PATH.split(':').any(|folder| Path::new(folder).join(program).exists())
        })
        .map(|(_, package)| *package)
        .collect();
    let packages = missing.join(" ");
    anyhow::ensure!(
        missing.is_empty(),
        "something to compare with is missing; run: apt-get install --no-install-recommends {packages}"
    );
    Ok(())
}
