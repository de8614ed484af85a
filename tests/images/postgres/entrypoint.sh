#!/bin/sh
# As root: prepare the directories and become postgres. As postgres: make the database unless it is
# there, then run the command. The server of the first start listens on its Unix socket only, so a
# client that reaches port 5432 reaches the finished database.
set -eu
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /run/postgresql
    chown postgres: "$PGDATA" /run/postgresql
    chmod 700 "$PGDATA"
    exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    password=$(mktemp)
    printf '%s\n' "${POSTGRES_PASSWORD:?is not set}" > "$password"
    initdb --username=postgres --pwfile="$password" --encoding=UTF8 --locale=C.UTF-8 \
        --auth-local=trust --auth-host=scram-sha-256
    rm "$password"
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    if [ -n "${POSTGRES_DB:-}" ]; then
        pg_ctl --wait -o "-c listen_addresses=''" start
        createdb --username=postgres "$POSTGRES_DB"
        pg_ctl --wait --mode=fast stop
    fi
fi
exec "$@"
