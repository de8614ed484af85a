"""The database: a pool of connections, and the migrations that make the tables."""

import functools
import os
import pathlib

import psycopg
import psycopg_pool
from psycopg.rows import dict_row

MIGRATIONS = pathlib.Path(__file__).parent / "migrations"


def settings():
    """What is beside the URL. The password is in a file, so that no environment shows it."""
    password = pathlib.Path(os.environ["DATABASE_PASSWORD_FILE"]).read_text().strip()
    return {"password": password, "connect_timeout": 5, "row_factory": dict_row}


@functools.cache
def pool():
    """One for each worker, opened at its first request. A connection that the database has closed is replaced, not handed out."""
    return psycopg_pool.ConnectionPool(
        os.environ["DATABASE_URL"],
        kwargs=settings(),
        min_size=1,
        max_size=4,
        timeout=5,
        check=psycopg_pool.ConnectionPool.check_connection,
    )


def migrate():
    """Applies what is new, in the order of the files' names; returns their names."""
    applied = []
    with psycopg.connect(os.environ["DATABASE_URL"], **settings()) as connection:
        # Two back ends that start at once take turns.
        connection.execute("SELECT pg_advisory_xact_lock(1)")
        connection.execute("CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY)")
        done = {row["name"] for row in connection.execute("SELECT name FROM migrations")}
        for path in sorted(MIGRATIONS.glob("*.sql")):
            if path.name not in done:
                connection.execute(path.read_text())
                connection.execute("INSERT INTO migrations VALUES (%s)", (path.name,))
                applied.append(path.name)
    return applied
