use super::{read, said};

/// From a Redis 7.0.15 that was killed by SIGSEGV; the report is shortened.
const LOG: &str = "\
26286:C 28 Nov 2026 15:42:49.456 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo
26286:M 28 Nov 2026 15:42:49.457 * The server is now ready to accept connections at /tmp/s
26286:M 28 Nov 2026 15:42:50.274 - Accepted connection to /tmp/s
26286:M 28 Nov 2026 15:42:50.289 . 0 clients connected (0 replicas), 876136 bytes in use
26286:signal-handler (1795880444) Received SIGTERM scheduling shutdown...


=== REDIS BUG REPORT START: Cut & paste starting from here ===
26286:M 28 Nov 2026 15:43:02.636 # Redis 7.0.15 crashed by signal: 11, si_code: 0
26286:M 28 Nov 2026 15:43:02.636 # Accessing address: 0x67c0

------ STACK TRACE ------
EIP:
/lib/x86_64-linux-gnu/libc.so.6(epoll_wait+0x56)[0x7f7c24f26f36]

------ REGISTERS ------
26286:M 28 Nov 2026 15:43:02.636 #\x20
RAX:fffffffffffffffc RBX:00007f7c247085c0

=== REDIS BUG REPORT END. Make sure to include from START to END. ===

       Please report the crash by opening an issue on github:
";

#[test]
fn levels_and_reports_are_understood() {
    let said: Vec<_> = read("redis", LOG).iter().map(said).collect();
    assert_eq!(
        said,
        [
            "warning - pid=26286 role=child [1]",
            "notice - pid=26286 role=master [1]",
            "info - pid=26286 role=master [1]",
            "debug - pid=26286 role=master [1]",
            "- -  [1]",
            "- -  [1]",
            "- -  [1]",
            "critical - pid=26286 role=master [13]",
            "- -  [1]",
            "- -  [1]",
        ]
    );
}

#[test]
fn what_only_resembles_its_log_is_not_understood() {
    for text in [
        "1:M 28 Nov 2026 15:00:00.000 ! x",
        "1:Q 28 Nov 2026 15:00:00.000 * x",
        "x:M 28 Nov 2026 15:00:00.000 * x",
        "1:M * x",
        "[1] 28 Nov 15:00:00.000 * x",
    ] {
        assert!(read("redis", text)[0].is_plain(), "{text}");
    }
}
