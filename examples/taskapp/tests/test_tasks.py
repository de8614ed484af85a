"""Tasks: made, read, edited, removed, listed."""

import concurrent.futures

import pytest
from client import delete, get, made, patch, post, send


def test_health():
    assert get("/api/health").json == {"status": "ok"}


def test_create_and_read():
    task = made(title="buy milk", notes="two litres", due="2030-01-31")
    assert task["version"] == 1 and not task["done"] and task["due"] == "2030-01-31"
    assert get(f"/api/tasks/{task['id']}").json == task


def test_edit():
    task = made(title="draft")
    edited = patch(f"/api/tasks/{task['id']}", {"version": 1, "title": "final", "due": "2031-12-01"})
    assert edited.json == task | {"title": "final", "due": "2031-12-01", "version": 2}


def test_complete():
    task = made()
    assert patch(f"/api/tasks/{task['id']}", {"version": 1, "done": True}).json["done"]
    assert get(f"/api/tasks/{task['id']}").json["done"]


def test_delete():
    path = f"/api/tasks/{made()['id']}"
    assert delete(path).status == 204
    assert [get(path).status, delete(path).status, patch(path, {"version": 1}).status] == [404, 404, 404]


def test_assignees():
    user = post("/api/users", {"name": f"user of {made()['id']}"})
    assert user.status == 201 and user.json in get("/api/users").json
    assert post("/api/users", {"name": user.json["name"]}).status == 409
    task = made(assignee=user.json["id"])
    assert task in get(f"/api/tasks?assignee={user.json['id']}").json
    assert post("/api/tasks", {"title": "x", "assignee": 2**31 - 1}).status == 422


def test_filters():
    mark = f"mark-{made()['id']}"
    early = made(title=f"{mark} early", due="2001-02-03")
    late = made(title=f"{mark} LATE", due="2040-02-03", done=True)
    found = lambda query: get(f"/api/tasks?text={mark}&{query}").json
    assert found("") == [early, late]
    assert found("due_before=2001-02-04") == [early]
    assert found("due_before=2001-02-03") == []
    assert found("done=true") == [late]
    assert get(f"/api/tasks?text={mark.upper()}%20late").json == [late]


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"title": ""},
        {"title": "   "},
        {"title": "x" * 201},
        {"title": 7},
        {"title": "x\0y"},
        {"title": "x", "due": "31.1.2030"},
        {"title": "x", "done": "yes"},
        {"title": "x", "assignee": -1},
        {"title": "x", "owner": "me"},
    ],
    ids=lambda body: str(len(str(body))),
)
def test_what_is_not_a_task(body):
    answer = post("/api/tasks", body)
    assert answer.status == 422 and answer.json["error"]


def test_what_is_not_json():
    assert send("POST", "/api/tasks", b"{", {"content-type": "application/json"}).status == 422
    assert send("POST", "/api/tasks", b"{}").status == 422


@pytest.mark.parametrize("query", ["done=maybe", "assignee=x", "assignee=0", "due_before=tomorrow"])
def test_wrong_filters(query):
    assert get(f"/api/tasks?{query}").status == 422


@pytest.mark.parametrize(
    "title",
    ["'; DROP TABLE tasks; --", "<script>alert(1)</script>", "Grüße 任务 🗒️", "%s %(x)s {} \\", "\u202egnp.exe\r\n"],
    ids=["sql", "html", "unicode", "formats", "controls"],
)
def test_text_comes_back_as_it_was(title):
    assert get(f"/api/tasks/{made(title=title)['id']}").json["title"] == title


def test_one_of_concurrent_edits_wins():
    path = f"/api/tasks/{made()['id']}"
    with concurrent.futures.ThreadPoolExecutor(12) as threads:
        edits = list(threads.map(lambda n: patch(path, {"version": 1, "title": f"edit {n}"}), range(24)))
    statuses = sorted(edit.status for edit in edits)
    assert statuses == [200] + [409] * 23
    winner = next(edit.json for edit in edits if edit.status == 200)
    assert get(path).json == winner and winner["version"] == 2


def test_many_at_once():
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        ids = set(threads.map(lambda n: made(title=f"one of many {n}")["id"], range(64)))
    assert len(ids) == 64
