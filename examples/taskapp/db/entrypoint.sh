#!/bin/sh
# As root: prepare the directories and become postgres. As postgres: make the database unless it is there, then run the command.
# The server of the first start listens on its Unix socket only: who reaches port 5432 reaches the finished database.
set -eu
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /run/postgresql
    chown postgres: "$PGDATA" /run/postgresql
    chmod 700 "$PGDATA"
    exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username=postgres --encoding=UTF8 --locale=C.UTF-8 --auth-local=peer --auth-host=scram-sha-256
    echo "host taskapp taskapp all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    pg_ctl --wait -o "-c listen_addresses=''" start
    psql --username=postgres --quiet --set=ON_ERROR_STOP=1 \
        --set=password="$(cat "${TASKAPP_PASSWORD_FILE:?is not set}")" --file=/srv/init.sql
    pg_ctl --wait --mode=fast stop
fi
exec "$@"
