"""Settings of gunicorn, which reads this file by its name. Temporary files of workers are in /tmp, gunicorn's default."""

import database

bind = "0.0.0.0:8000"
workers = 2
threads = 4
timeout = 30
graceful_timeout = 20
# The front end keeps connections: one must not be closed just when it sends the next request.
keepalive = 75
accesslog = None
# Sockets of the control of workers and the like are not used.
forwarded_allow_ips = "127.0.0.1"


def on_starting(server):
    """Once, before there are workers."""
    for name in database.migrate():
        server.log.info("migration %s", name)
