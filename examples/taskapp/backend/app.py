"""Tasks and users over HTTP, as JSON.

GET    /health          200 when the database answers, else 503
GET    /users           POST /users {name}
GET    /tasks           ?done=true|false &assignee=ID &due_before=DATE &text=PART
POST   /tasks           {title, notes, due, assignee, done}
GET    /tasks/ID        PATCH /tasks/ID {version, ...}: 409 when somebody was faster; DELETE /tasks/ID
GET    /tasks.csv       all tasks
"""

import csv
import tempfile

import flask
import psycopg
from psycopg import sql

import fields
from database import pool

app = flask.Flask(__name__, static_folder=None)
app.config["MAX_CONTENT_LENGTH"] = 64 * 1024
COLUMNS = ("id", "title", "notes", "due", "done", "assignee", "version")
SELECT = sql.SQL("SELECT {} FROM tasks").format(sql.SQL(", ").join(map(sql.Identifier, COLUMNS)))
RETURNING = sql.SQL(" RETURNING {}").format(sql.SQL(", ").join(map(sql.Identifier, COLUMNS)))


@app.errorhandler(fields.Refused)
def refused(error):
    return {"error": str(error)}, 422


@app.errorhandler(psycopg.errors.ForeignKeyViolation)
def no_such_user(_error):
    return {"error": "assignee: no such user"}, 422


@app.errorhandler(psycopg.OperationalError)
def no_database(error):
    app.logger.error("%s", error)
    return {"error": "the database does not answer"}, 503


def body():
    return flask.request.get_json(silent=True)


def shown(task):
    return task | {"due": task["due"] and task["due"].isoformat()}


def query(statement, values=()):
    with pool().connection() as connection:
        return connection.execute(statement, values).fetchall()


def one(rows):
    if not rows:
        flask.abort(flask.make_response({"error": "no such task"}, 404))
    return shown(rows[0])


@app.get("/health")
def health():
    query("SELECT 1")
    return {"status": "ok"}


@app.get("/users")
def users():
    return query("SELECT id, name FROM users ORDER BY id")


@app.post("/users")
def add_user():
    name = fields.read(body(), fields.USER, ["name"])["name"]
    rows = query("INSERT INTO users (name) VALUES (%s) ON CONFLICT DO NOTHING RETURNING id, name", (name,))
    return (rows[0], 201) if rows else ({"error": "name: there is such a user"}, 409)


def filters():
    """Conditions and values of the list's parameters."""
    asked = flask.request.args
    if "done" in asked:
        if asked["done"] not in ("true", "false"):
            raise fields.Refused("done: not true or false")
        yield "done = %s", asked["done"] == "true"
    if "assignee" in asked:
        value = asked["assignee"]
        yield "assignee = %s", fields.number("assignee", int(value) if value.isdecimal() else value)
    if "due_before" in asked:
        yield "due < %s", fields.day("due_before", asked["due_before"])
    if "text" in asked:
        yield "position(lower(%s) IN lower(title || ' ' || notes)) > 0", asked["text"].replace("\0", "")


@app.get("/tasks")
def tasks():
    asked = list(filters())
    conditions = [sql.SQL(condition) for condition, _ in asked] or [sql.SQL("true")]
    statement = SELECT + sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) + sql.SQL(" ORDER BY id LIMIT 1000")
    return [shown(task) for task in query(statement, [value for _, value in asked])]


@app.post("/tasks")
def add():
    new = fields.read(body(), fields.TASK, ["title"])
    names = sql.SQL(", ").join(map(sql.Identifier, new))
    statement = sql.SQL("INSERT INTO tasks ({}) VALUES ({})").format(
        names, sql.SQL(", ").join([sql.Placeholder()] * len(new))
    )
    return one(query(statement + RETURNING, list(new.values()))), 201


@app.get("/tasks/<int:task>")
def task(task):
    return one(query(SELECT + sql.SQL(" WHERE id = %s"), (task,)))


@app.patch("/tasks/<int:task>")
def edit(task):
    new = fields.read(body(), fields.TASK | {"version": fields.number}, ["version"])
    version = new.pop("version")
    changes = [sql.SQL("{} = %s").format(sql.Identifier(name)) for name in new]
    changes.append(sql.SQL("version = version + 1"))
    statement = sql.SQL("UPDATE tasks SET {} WHERE id = %s AND version = %s").format(sql.SQL(", ").join(changes))
    rows = query(statement + RETURNING, [*new.values(), task, version])
    if not rows:
        current = one(query(SELECT + sql.SQL(" WHERE id = %s"), (task,)))
        return {"error": "version: somebody was faster", "task": current}, 409
    return one(rows)


@app.delete("/tasks/<int:task>")
def remove(task):
    one(query(sql.SQL("DELETE FROM tasks WHERE id = %s") + RETURNING, (task,)))
    return "", 204


def cell(value):
    """A spreadsheet takes what begins so for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


@app.get("/tasks.csv")
def export():
    """Through a temporary file, so that memory does not grow with the table."""
    file = tempfile.TemporaryFile("w+", encoding="utf-8", newline="")
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    with pool().connection() as connection:
        for task in connection.execute(SELECT + sql.SQL(" ORDER BY id")):
            writer.writerow([cell(value) for value in task.values()])
    file.seek(0)
    return flask.send_file(file.detach(), mimetype="text/csv", download_name="tasks.csv")
