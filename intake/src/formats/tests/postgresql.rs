use model::{Fields, LogLine};

use super::{read, said};
use crate::formats::Reader;

fn all(text: &str) -> Vec<String> {
    read("postgresql", text).iter().map(said).collect()
}

/// From a PostgreSQL 15.18, as those below: the default prefix.
const DEFAULT: &str = "\
2026-11-28 15:40:35.830 UTC [23610] LOG:  database system is ready to accept connections
2026-11-28 15:40:35.888 UTC [23619] LOG:  duration: 0.217 ms  statement: select 1,
\t\t2;
2026-11-28 15:40:35.889 UTC [23619] ERROR:  relation \"nowhere\" does not exist at character 15
2026-11-28 15:40:35.889 UTC [23619] STATEMENT:  select 1
\tfrom nowhere
\twhere x = 'a''b\"c';
2026-11-28 15:40:35.890 UTC [23619] WARNING:  line one
\tline two
2026-11-28 15:40:35.890 UTC [23619] CONTEXT:  PL/pgSQL function inline_code_block line 1 at RAISE
2026-11-28 15:40:35.932 UTC [23621] FATAL:  database \"nodb\" does not exist
2026-11-28 15:40:35.932 UTC [23619] DETAIL:  of another process
2026-11-28 16:40:37.087 CET [23670] PANIC:  could not write
initdb: warning: enabling \"trust\" authentication for local connections
";

/// With `log_error_verbosity=verbose` and the prefixes `%m [%p] %q%u@%d ` (Debian's),
/// `%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h ` and `%t:%r:%u@%d:[%p]:`.
const PREFIXES: &str = "\
2026-11-28 15:40:36.238 UTC [23627] LOG:  00000: database system is ready to accept connections
2026-11-28 15:40:36.238 UTC [23627] LOCATION:  reaper, postmaster.c:3127
2026-11-28 15:40:36.308 UTC [23636] app@postgres ERROR:  23505: duplicate key value violates unique constraint \"t_pkey\"
2026-11-28 15:40:36.308 UTC [23636] app@postgres DETAIL:  Key (id)=(1) already exists.
2026-11-28 15:40:36 UTC [23653]: [1-1] user=app,db=postgres,app=a \"b\" app,client=[local] LOG:  duration: 0.117 ms  statement: select 1;
2026-11-28 15:40:36 UTC [23655]: [1-1] user=app,db=nodb,app=[unknown],client=[local] FATAL:  database \"nodb\" does not exist
2026-11-28 15:40:36 UTC [23644]: [6-1] user=,db=,app=,client= LOG:  received fast shutdown request
2026-11-28 15:40:36 UTC:10.0.0.1(5432):app@web:[23644]:LOG:  disconnection: session time: 0:00:00.1
2026-11-28 15:40:36 UTC:10.0.0.1(5432):[unknown]@[unknown]:[23644]:LOG:  connection received
";

/// As it comes through syslog with the prefix `%q%u@%d `; tabs as rsyslog escapes them.
const SYSLOG: &str = "\
[1-1] LOG:  ending log output to stderr
[1-2] HINT:  Future log output will go to log destination \"syslog\".
[5-1] app@postgres ERROR:  relation \"nowhere\" does not exist at character 15
[5-2] app@postgres STATEMENT:  select 1
[5-3] \tfrom nowhere
[5-4] #011where x = 'a';
[6-1] app@postgres LOG:  duration: 0.228 ms  statement: select
[6-2]  'aaaa
[6-3] aaaa';
[7-2] of a message whose start was lost
[6-4] out of turn
";

#[test]
fn messages_of_several_lines_are_one() {
    assert_eq!(
        all(DEFAULT),
        [
            "info 2026-11-28T15:40:35.83Z pid=23610 [1]",
            "info 2026-11-28T15:40:35.888Z pid=23619 [2]",
            "error 2026-11-28T15:40:35.889Z pid=23619 [1]",
            "error 2026-11-28T15:40:35.889Z pid=23619 [3]",
            "warning 2026-11-28T15:40:35.89Z pid=23619 [2]",
            "warning 2026-11-28T15:40:35.89Z pid=23619 [1]",
            "critical 2026-11-28T15:40:35.932Z pid=23621 [1]",
            "- 2026-11-28T15:40:35.932Z pid=23619 [1]",
            "alert - pid=23670 [1]",
            "- -  [1]",
        ]
    );
}

#[test]
fn prefixes_say_whom_a_line_is_about() {
    assert_eq!(
        all(PREFIXES),
        [
            "info 2026-11-28T15:40:36.238Z pid=23627 [1]",
            "info 2026-11-28T15:40:36.238Z pid=23627 [1]",
            "error 2026-11-28T15:40:36.308Z user=app database=postgres pid=23636 sqlstate=23505 [1]",
            "error 2026-11-28T15:40:36.308Z user=app database=postgres pid=23636 [1]",
            "info 2026-11-28T15:40:36Z user=app database=postgres pid=23653 \
             application_name=a \"b\" app [1]",
            "critical 2026-11-28T15:40:36Z user=app database=nodb pid=23655 [1]",
            "info 2026-11-28T15:40:36Z pid=23644 [1]",
            "info 2026-11-28T15:40:36Z user=app database=web pid=23644 [1]",
            "info 2026-11-28T15:40:36Z pid=23644 [1]",
        ]
    );
}

#[test]
fn pieces_of_a_message_to_syslog_are_one_line() {
    assert_eq!(
        all(SYSLOG),
        [
            "info -  [1]",
            "info -  [1]",
            "error - user=app database=postgres [1]",
            "error - user=app database=postgres [3]",
            "info - user=app database=postgres [3]",
            "- -  [1]",
            "- -  [1]",
        ]
    );
}

#[test]
fn pieces_of_different_processes_stay_apart() {
    let (mut reader, mut out) = (Reader::new(Some("postgresql")), Vec::new());
    for (procid, text) in [("1", "[5-1] LOG:  a"), ("2", "[5-2] \tof another"), ("2", "[6-1] x")] {
        let fields: Fields = [("procid", procid)].into_iter().collect();
        reader.push(LogLine { fields, ..LogLine::plain(text) }, &mut out);
    }
    assert_eq!(out.len(), 3);
}

/// `log_destination=csvlog`.
const CSV: &str = r#"2026-11-28 15:40:37.409 UTC,,,23678,,6b0af5f5.5c7e,1,,2026-11-28 15:40:37 UTC,,0,LOG,00000,"ending log output to stderr",,"Future log output will go to log destination ""csvlog"".",,,,,,"PostmasterMain, postmaster.c:1191","","postmaster",,0
2026-11-28 15:40:37.493 UTC,"app","postgres",23687,"[local]",6b0af5f5.5c87,3,"SELECT",2026-11-28 15:40:37 UTC,3/4,0,ERROR,42P01,"relation ""nowhere"" does not exist",,,,,,"select 1
from nowhere
where x = 'a''b""c';",15,"parserOpenTable, parse_relation.c:1392","a ""b"" app","client backend",,0
2026-11-28 15:40:37.494 UTC,"app","postgres",23687,"[local]",6b0af5f5.5c87,4,"DO",2026-11-28 15:40:37 UTC,3/5,0,WARNING,01000,"line one
line two",,,,,"PL/pgSQL function inline_code_block line 1 at RAISE",,,"exec_stmt_raise, pl_exec.c:3891","a ""b"" app","client backend",,0
2026-11-28 15:40:37.511 CET,"app","postgres",23687,"[local]",6b0af5f5.5c87,7,"INSERT",2026-11-28 15:40:37 CET,3/0,0,FATAL,57P01,"cut off
2026-11-28 15:40:37.512 UTC,"app","postgres",23687,"[local]",6b0af5f5.5c87,9,"SELECT",2026-11-28 15:40:37 UTC,3/9,0,ERROR,22012,"division by zero",,,,,,"select 1/0;",,,"psql"
"#;

#[test]
fn csv_is_understood() {
    assert_eq!(
        all(CSV),
        [
            "info 2026-11-28T15:40:37.409Z pid=23678 [1]",
            "error 2026-11-28T15:40:37.493Z user=app database=postgres pid=23687 sqlstate=42P01 \
             application_name=a \"b\" app [3]",
            "warning 2026-11-28T15:40:37.494Z user=app database=postgres pid=23687 sqlstate=01000 \
             application_name=a \"b\" app [2]",
            "critical - user=app database=postgres pid=23687 sqlstate=57P01 [1]",
            "error 2026-11-28T15:40:37.512Z user=app database=postgres pid=23687 sqlstate=22012 \
             application_name=psql [1]",
        ]
    );
}

#[test]
fn csv_that_is_complete_does_not_wait() {
    let (mut reader, mut out) = (Reader::new(Some("postgresql")), Vec::new());
    for (index, line) in CSV.lines().take(4).enumerate() {
        reader.push(LogLine::plain(line), &mut out);
        assert_eq!(reader.is_waiting(), index == 1 || index == 2, "{index}");
    }
}

/// `log_destination=jsonlog`.
const JSON: &str = r#"{"timestamp":"2026-11-28 15:40:37.937 UTC","pid":23695,"session_id":"6b0af5f5.5c8f","line_num":5,"session_start":"2026-11-28 15:40:37 UTC","txid":0,"error_severity":"LOG","message":"received fast shutdown request","backend_type":"postmaster","query_id":0}
{"timestamp":"2026-11-28 15:40:37.884 UTC","user":"app","dbname":"postgres","pid":23704,"remote_host":"[local]","session_id":"6b0af5f5.5c98","line_num":3,"ps":"SELECT","session_start":"2026-11-28 15:40:37 UTC","vxid":"3/4","txid":0,"error_severity":"ERROR","state_code":"42P01","message":"relation \"nowhere\" does not exist","statement":"select 1\nfrom nowhere\nwhere x = 'a''b\"c';","cursor_position":15,"application_name":"a \"b\" app","backend_type":"client backend","query_id":0}
{"timestamp":7}
{"level":"info","message":"of something else"}
"#;

#[test]
fn json_is_understood() {
    assert_eq!(
        all(JSON),
        [
            "info 2026-11-28T15:40:37.937Z pid=23695 [1]",
            "error 2026-11-28T15:40:37.884Z user=app database=postgres pid=23704 sqlstate=42P01 \
             application_name=a \"b\" app [1]",
            "- -  [1]",
            "- -  [1]",
        ]
    );
}
