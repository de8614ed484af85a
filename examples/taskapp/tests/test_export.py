"""The export, and what a restart leaves."""

import csv
import io
import os
import subprocess
import time

import pytest
from client import get, made


def rows():
    answer = get("/api/tasks.csv")
    assert answer.status == 200 and "tasks.csv" in answer.headers["content-disposition"]
    return {row["id"]: row for row in csv.DictReader(io.StringIO(answer.body.decode()))}


def test_export():
    task = made(title='quotes " and, commas', notes="two\nlines", due="2030-01-31")
    row = rows()[str(task["id"])]
    assert row["title"] == task["title"] and row["notes"] == task["notes"] and row["due"] == task["due"]


def test_formulas_are_exported_as_text():
    task = made(title="=HYPERLINK(1)")
    assert rows()[str(task["id"])]["title"] == "'=HYPERLINK(1)"


def test_a_large_export():
    notes = "x" * 10000
    ids = [made(notes=notes)["id"] for _ in range(60)]
    exported = rows()
    assert all(exported[str(task)]["notes"] == notes for task in ids)


@pytest.mark.parametrize("service", ["backend", "db"])
def test_a_restart_keeps_tasks(service):
    """Of the project TASKAPP_PROJECT, by the engine's client."""
    project = os.environ.get("TASKAPP_PROJECT")
    if not project:
        pytest.skip("TASKAPP_PROJECT names no project")
    task = made(title=f"survives a restart of {service}")
    label = "label=com.docker.compose"
    names = ["--filter", f"{label}.project={project}", "--filter", f"{label}.service={service}"]
    listed = subprocess.run(["docker", "ps", "--quiet", *names], check=True, capture_output=True, text=True)
    subprocess.run(["docker", "restart", *listed.stdout.split()], check=True, capture_output=True)
    deadline = time.monotonic() + 90
    well = 0
    # each worker of the back end has connections of its own that it must find broken
    while well < 20:
        assert time.monotonic() < deadline, f"not well after a restart of {service}"
        well = well + 1 if get("/api/health").status == 200 else 0
        time.sleep(0.02)
    assert get(f"/api/tasks/{task['id']}").json == task
