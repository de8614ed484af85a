#!/bin/sh
# As root: give the data directory to redis and become it. Then run the command.
set -eu
if [ "$(id -u)" = 0 ]; then
    find /data ! -user redis -exec chown redis: {} +
    exec setpriv --reuid redis --regid redis --init-groups "$0" "$@"
fi
exec "$@"
