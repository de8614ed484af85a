//! The five servers: how each is started, what its users do with it, and who may be root in it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::{
    enforce::traffic::{ANSWER, connect, in_parallel, once, redis, request, request_in_two},
    harness::{docker::Engine, program},
};

/// One server.
pub struct Server {
    /// Its image is `localhost/NAME:1`.
    pub name: &'static str,
    /// Where it listens.
    pub port: u16,
    /// Options of `docker run`, `{database}` standing for the address of a PostgreSQL server.
    pub options: &'static [&'static str],
    /// What its users do, given its address.
    pub traffic: fn(&Engine, &str) -> Result<()>,
    /// Names of processes that stay root; all others must have given up uid and gid 0.
    pub root: Root,
    /// Exit status after the engine's stop.
    pub stopped: i64,
}

/// Which of a server's processes may be root.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// None.
    Nobody,
    /// The first process only.
    Master,
}

/// Until a PostgreSQL server takes queries: its port is open before.
pub fn until_database(engine: &Engine, address: &str) -> Result<()> {
    drop(connect(address, 5432)?);
    let ask = ["run", "--rm", "--entrypoint", "pg_isready", "localhost/postgres:1", "-h", address];
    program::until("the database", ANSWER, || engine.docker(&ask).is_ok())
}

/// Name and password of the database.
pub const DATABASE: [&str; 2] = ["POSTGRES_PASSWORD=secret", "POSTGRES_DB=app"];

/// All of them.
pub const SERVERS: [Server; 5] = [
    Server {
        name: "nginx",
        port: 80,
        options: &[],
        traffic: nginx,
        root: Root::Master,
        stopped: 0,
    },
    Server {
        name: "redis",
        port: 6379,
        options: &[],
        traffic: redis_client,
        root: Root::Nobody,
        stopped: 0,
    },
    Server {
        name: "postgres",
        port: 5432,
        options: &["-e", DATABASE[0], "-e", DATABASE[1]],
        traffic: postgres,
        root: Root::Nobody,
        stopped: 0,
    },
    Server {
        name: "flask",
        port: 8000,
        options: &["-e", "DATABASE_URL=postgresql://postgres:secret@{database}/app"],
        traffic: flask,
        root: Root::Nobody,
        stopped: 0,
    },
    Server {
        name: "node",
        port: 3000,
        options: &[],
        traffic: node,
        root: Root::Nobody,
        stopped: 0,
    },
];

fn nginx(_: &Engine, address: &str) -> Result<()> {
    ensure!(once(address, 80, "GET /healthz", "", &[], 200)?.text() == "ok\n", "healthz");
    in_parallel(|_| {
        let stream = connect(address, 80)?;
        for _ in 0..20 {
            let page = request(&stream, "GET /", "", &[])?;
            ensure!(
                page.status == 200 && page.text().contains("served by nginx"),
                "the page: {}",
                page.text()
            );
            let zipped = request(&stream, "GET /index.html", "Accept-Encoding: gzip\r\n", &[])?;
            ensure!(
                zipped.head.contains("content-encoding: gzip"),
                "not compressed: {}",
                zipped.head
            );
            ensure!(
                request(&stream, "GET /absent", "", &[])?.status == 404,
                "a page that is not there"
            );
            let tag = page.head.lines().find_map(|line| line.strip_prefix("etag: "));
            let known = format!("If-None-Match: {}\r\n", tag.unwrap_or("none"));
            ensure!(request(&stream, "GET /", &known, &[])?.status < 400, "a conditional request");
            let range = request(&stream, "GET /", "Range: bytes=0-9\r\n", &[])?;
            let proxied = request(&stream, "GET /proxied", "", &[])?;
            ensure!(
                proxied.status == 200 && proxied.body.len() == 40_000,
                "proxied: {} bytes",
                proxied.body.len()
            );
            ensure!(range.status == 206 && range.body.len() == 10, "a range: {}", range.status);
        }
        // what comes with the head is written together with what follows, and alone otherwise
        for with_head in [Some(0), Some(100), None] {
            let stream = connect(address, 80)?;
            let body = vec![b'x'; 300_000];
            let answer = request_in_two(&stream, "POST /upload", "", &body, with_head)?;
            ensure!(answer.status == 200, "an upload: {}", answer.status);
        }
        Ok(())
    })
}

fn redis_client(_: &Engine, address: &str) -> Result<()> {
    let answers = |stream: &_, words: &[&str], expected: &str| {
        let answer = redis(stream, words)?;
        ensure!(answer == expected, "{words:?} is answered with {answer:?}, not {expected:?}");
        Ok(())
    };
    in_parallel(|client| {
        let stream = connect(address, 6379)?;
        let (key, list) = (format!("key{client}"), format!("list{client}"));
        let large = "x".repeat(200_000);
        answers(&stream, &["PING"], "+PONG")?;
        redis(&stream, &["DEL", &list])?;
        for round in 1..=50 {
            let value = format!("value {round}");
            answers(&stream, &["SET", &key, &value, "PX", "60000"], "+OK")?;
            answers(&stream, &["GET", &key], &value)?;
            answers(&stream, &["LPUSH", &list, &value], &format!(":{round}"))?;
        }
        answers(&stream, &["SET", &key, &large], "+OK")?;
        answers(&stream, &["GET", &key], &large)?;
        redis(&stream, &["INFO"])?;
        Ok(())
    })?;
    let stream = connect(address, 6379)?;
    let settled = || {
        let deadline = Instant::now() + ANSWER;
        loop {
            let state = redis(&stream, &["INFO", "persistence"])?;
            if !state.contains("in_progress:1") && !state.contains("scheduled:1") {
                return anyhow::Ok(state);
            }
            ensure!(Instant::now() < deadline, "a background save does not end: {state}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    redis(&stream, &["BGSAVE"])?;
    ensure!(settled()?.contains("rdb_last_bgsave_status:ok"), "the background save failed");
    answers(&stream, &["CONFIG", "SET", "appendonly", "yes"], "+OK")?;
    ensure!(settled()?.contains("aof_last_bgrewrite_status:ok"), "the rewrite failed");
    answers(&stream, &["SAVE"], "+OK")
}

fn postgres(engine: &Engine, address: &str) -> Result<()> {
    let sql = "DROP TABLE IF EXISTS t; CREATE TABLE t (id serial PRIMARY KEY, word text);\
               INSERT INTO t (word) SELECT md5(i::text) FROM generate_series(1, 20000) i;\
               CREATE INDEX ON t (word); ANALYZE t; BEGIN; UPDATE t SET word = upper(word) WHERE id % 3 = 0; COMMIT;\
               VACUUM t; CHECKPOINT; SELECT pg_sleep(0.1);\
               SELECT 'rows=' || count(*) FROM t a JOIN t b USING (word) WHERE a.id > 0 GROUP BY 1 = 1 ORDER BY 1";
    let psql = |sql: &str| {
        let words = [
            "run",
            "--rm",
            "--entrypoint",
            "psql",
            "-e",
            "PGPASSWORD=secret",
            "localhost/postgres:1",
        ];
        let client = ["-h", address, "-U", "postgres", "-d", "app", "-v", "ON_ERROR_STOP=1", "-tA"];
        let mut words = [words.as_slice(), &client].concat();
        for statement in sql.split(';') {
            words.extend(["-c", statement.trim()]);
        }
        engine.docker(&words)
    };
    let answer = psql(sql)?;
    ensure!(answer.contains("rows=20000"), "psql says {answer:?}");
    in_parallel(|_| {
        let answer =
            psql("SELECT count(*) FROM t WHERE word LIKE 'A%'; SELECT sum(length(word)) FROM t")?;
        ensure!(answer.lines().count() == 2, "psql says {answer:?}");
        Ok(())
    })
}

fn flask(_: &Engine, address: &str) -> Result<()> {
    once(address, 8000, "GET /healthz", "", &[], 200)?;
    in_parallel(|client| {
        for round in 0..10 {
            let name = format!("item {client} {round}");
            let body = format!("{{\"name\": \"{name}\"}}");
            once(
                address,
                8000,
                "POST /items",
                "Content-Type: application/json\r\n",
                body.as_bytes(),
                201,
            )?;
            let items = once(address, 8000, "GET /items", "", &[], 200)?.text();
            ensure!(items.contains(&name), "{name:?} is not in {items:?}");
        }
        once(address, 8000, "POST /items", "", b"nothing", 400)?;
        once(address, 8000, "GET /absent", "", &[], 404)?;
        Ok(())
    })
}

fn node(_: &Engine, address: &str) -> Result<()> {
    in_parallel(|_| {
        let stream = connect(address, 3000)?;
        for n in 1..20 {
            let page = request(&stream, "GET /", "", &[])?;
            ensure!(page.text().starts_with("request "), "the page: {}", page.text());
            let computed = request(&stream, &format!("GET /compute?n={n}"), "", &[])?.text();
            ensure!(computed.contains("\"key\":\""), "computed: {computed}");
        }
        once(address, 3000, "GET /absent", "", &[], 404)?;
        Ok(())
    })
}
