use super::{read, said};

fn all(engine: &str, text: &str) -> Vec<String> {
    read(engine, text).iter().map(said).collect()
}

/// From a `MariaDB` 10.11.19, but for the first, which is as its image's entry point writes, and the last.
const ERRORS: &str = "\
2026-11-28 15:40:44+00:00 [Note] [Entrypoint]: Initializing database files
2026-11-28 15:40:45 0 [Warning] Could not increase number of max_open_files to more than 20000 (request: 32184)
2026-11-28 15:40:45 0 [Note] mariadbd: ready for connections.
Version: '10.11.19-MariaDB-0+deb12u1-log'  socket: '/tmp/md/s'  port: 0  Debian 12
2026-11-28 15:40:46 5 [Warning] Access denied for user 'nobody'@'localhost' (using password: YES)
2026-11-28  5:40:46 5 [ERROR] mariadbd: Table './app/t' is marked as crashed
";

/// In the forms of `MySQL` 8.0 and 5.7, and of `MariaDB` 5.5.
const MYSQL_ERRORS: &str = "\
2026-11-28T15:40:45.000001Z 0 [System] [MY-010931] [Server] /usr/sbin/mysqld: ready for connections.
2026-11-28T16:40:45.000001+01:00 9 [ERROR] [MY-012345] [InnoDB] Unable to lock ./ibdata1 error: 11
2026-11-28T15:40:45.000001Z 0 [Note] Event Scheduler: Loaded 0 events
261128 15:40:46 [ERROR] mysqld got signal 11 ;
261128 15:40:46 mysqld_safe Starting mysqld daemon
";

/// From a `MariaDB` 10.11.19 with `log_slow_verbosity=query_plan,explain`.
const SLOW: &str = "\
mariadbd, Version: 10.11.19-MariaDB-0+deb12u1-log (Debian 12). started with:
Tcp port: 0  Unix socket: /tmp/md/s
Time\t\t    Id Command\tArgument
# Time: 261128 15:40:46
# User@Host: root[root] @ localhost []
# Thread_id: 3  Schema:   QC_hit: No
# Query_time: 0.000098  Lock_time: 0.000000  Rows_sent: 1  Rows_examined: 0
# Rows_affected: 0  Bytes_sent: 58
#
# explain: id\tselect_type\ttable\ttype\tpossible_keys\tkey\tkey_len\tref\trows\tr_rows\tfiltered\tr_filtered\tExtra
# explain: 1\tSIMPLE\tNULL\tNULL\tNULL\tNULL\tNULL\tNULL\tNULL\tNULL\tNULL\tNULL\tNo tables used
#
SET timestamp=1795880446;
select 1;
# User@Host: root[root] @ localhost []
# Thread_id: 4  Schema: app  QC_hit: No
# Query_time: 0.017280  Lock_time: 0.000056  Rows_sent: 0  Rows_examined: 0
# Rows_affected: 0  Bytes_sent: 11
use `app`;
SET timestamp=1795880446;
select *
from t
where v = 'x;
# not a header
y';
2026-11-28 15:40:46 5 [Warning] Access denied for user 'nobody'@'localhost' (using password: YES)
";

/// In the form of `MySQL` 8.0.
const MYSQL_SLOW: &str = "\
# Time: 2026-11-28T15:40:46.123456Z
# User@Host: any[app] @  [10.0.0.1]  Id:     8
# Query_time: 0.000316  Lock_time: 0.000002 Rows_sent: 1  Rows_examined: 0
SET timestamp=1795880446;
SELECT
  1;
";

#[test]
fn errors_are_understood() {
    assert_eq!(
        all("mariadb", ERRORS),
        [
            "info 2026-11-28T15:40:44Z  [1]",
            "warning - thread_id=0 [1]",
            "info - thread_id=0 [1]",
            "- -  [1]",
            "warning - thread_id=5 [1]",
            "error - thread_id=5 [1]",
        ]
    );
    assert_eq!(
        all("mysql", MYSQL_ERRORS),
        [
            "notice 2026-11-28T15:40:45.000001Z thread_id=0 error_code=MY-010931 subsystem=Server [1]",
            "error 2026-11-28T15:40:45.000001Z thread_id=9 error_code=MY-012345 subsystem=InnoDB [1]",
            "info 2026-11-28T15:40:45.000001Z thread_id=0 [1]",
            "error -  [1]",
            "- -  [1]",
        ]
    );
}

#[test]
fn slow_queries_are_one_line_each() {
    assert_eq!(
        all("mariadb", SLOW),
        [
            "- -  [1]",
            "- -  [1]",
            "- -  [1]",
            "- 2026-11-28T15:40:46Z user=root client=localhost thread_id=3 query_time=0.000098 \
             lock_time=0.000000 rows_sent=1 rows_examined=0 rows_affected=0 [11]",
            "- 2026-11-28T15:40:46Z user=root client=localhost thread_id=4 database=app \
             query_time=0.017280 lock_time=0.000056 rows_sent=0 rows_examined=0 rows_affected=0 \
             [11]",
            "warning - thread_id=5 [1]",
        ]
    );
    assert_eq!(
        all("mysql", MYSQL_SLOW),
        ["- 2026-11-28T15:40:46.123456Z user=app client=10.0.0.1 thread_id=8 \
             query_time=0.000316 lock_time=0.000002 rows_sent=1 rows_examined=0 [6]"]
    );
}
