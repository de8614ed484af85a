"""A client of the front end at TASKAPP_URL. Connections are closed: the suite depends on no order."""

import json
import os
import urllib.error
import urllib.request

URL = os.environ.get("TASKAPP_URL", "http://127.0.0.1:8088")


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)


def send(method, path, data=None, headers=()):
    request = urllib.request.Request(URL + path, data, dict(headers), method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return Answer(response)
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error)


def get(path):
    return send("GET", path)


def post(path, body):
    return send("POST", path, json.dumps(body).encode(), {"content-type": "application/json"})


def patch(path, body):
    return send("PATCH", path, json.dumps(body).encode(), {"content-type": "application/json"})


def delete(path):
    return send("DELETE", path)


def made(**task):
    """A new task."""
    answer = post("/api/tasks", {"title": "a task"} | task)
    assert answer.status == 201, answer.body
    return answer.json
