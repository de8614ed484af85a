"""Items in a PostgreSQL table, over HTTP.

GET /healthz   200 when the database answers, 503 when not
POST /items    {"name": "..."} -> 201 {"id": 1, "name": "..."}
GET /items     [{"id": 1, "name": "..."}, ...], oldest first
"""

import os

import flask
import psycopg

app = flask.Flask(__name__)

TABLE = "CREATE TABLE IF NOT EXISTS items (id serial PRIMARY KEY, name text NOT NULL)"


def connect():
    """A connection to a database that has the table."""
    connection = psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=5)
    with connection.transaction():
        # IF NOT EXISTS alone lets two workers create it at once, and one of them fail.
        connection.execute("SELECT pg_advisory_xact_lock(1)")
        connection.execute(TABLE)
    return connection


@app.get("/healthz")
def healthz():
    try:
        with connect() as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        return flask.Response(f"{error}\n", status=503, mimetype="text/plain")
    return flask.Response("ok\n", mimetype="text/plain")


@app.post("/items")
def add():
    body = flask.request.get_json(silent=True)
    name = body.get("name") if isinstance(body, dict) else None
    if not isinstance(name, str):
        return {"error": "name is missing"}, 400
    with connect() as connection:
        row = connection.execute(
            "INSERT INTO items (name) VALUES (%s) RETURNING id", (name,)
        ).fetchone()
    return {"id": row[0], "name": name}, 201


@app.get("/items")
def items():
    with connect() as connection:
        rows = connection.execute("SELECT id, name FROM items ORDER BY id").fetchall()
    return [{"id": id, "name": name} for id, name in rows]
