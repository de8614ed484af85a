"""Runs each test under a label of its own: its node id.

Put this file beside the tests, or its content into the conftest.py that is there. Where nothing records it does nothing.

    profiler record --container backend -- pytest

With pytest-xdist tests run at once, and each call has the labels of all of them.
"""

import os
import socket

import pytest


def pytest_configure(config):
    path = os.environ.get("PROFILER_SOCKET")
    if path:
        config.pluginmanager.register(Labels(path), "profiler-labels")


class Labels:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.answers = self.socket.makefile(encoding="utf-8")

    def ask(self, line):
        """Returns when the recorder has done it."""
        self.socket.sendall(f"{line}\n".encode())
        answer = self.answers.readline()
        if answer != "ok\n":
            raise RuntimeError(f"profiler: {answer.strip() or 'the recorder is gone'}")

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item):
        label = "".join(c if c.isprintable() else "?" for c in item.nodeid)
        self.ask(f"begin {label}")
        yield
        self.ask(f"end {label}")
