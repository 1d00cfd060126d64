#!/bin/sh
# Starts PostgreSQL; the first time it makes the cluster, the app's role and its
# database, as the usual image does. Passwords come from the environment and are
# on no command line.
set -eu
: "${POSTGRES_USER:?}" "${POSTGRES_PASSWORD:?}" "${POSTGRES_DB:?}" "${POSTGRES_ADMIN_PASSWORD:?}"
data=${PGDATA:-/var/lib/postgresql/data/pgdata}
config=${PGCONFIG:-/etc/postgresql}
umask 077

if [ ! -s "$data/PG_VERSION" ]; then
	echo "making a database cluster in $data"
	rm -rf "$data" "$data.new" # what a start left that was killed
	echo "$POSTGRES_ADMIN_PASSWORD" >/tmp/admin
	initdb -D "$data.new" -U postgres --pwfile=/tmp/admin -A scram-sha-256 -E UTF8 --no-locale --no-sync --no-instructions >/tmp/initdb.log || {
		cat /tmp/initdb.log >&2
		exit 1
	}
	rm /tmp/admin
	quoted() { printf %s "$1" | sed "s/'/''/g"; }
	# A statement a line. Nothing is logged: there is a password among them.
	postgres --single -D "$data.new" -c log_statement=none postgres >/dev/null <<-SQL
		CREATE ROLE "$POSTGRES_USER" LOGIN PASSWORD '$(quoted "$POSTGRES_PASSWORD")'
		CREATE DATABASE "$POSTGRES_DB" OWNER "$POSTGRES_USER"
	SQL
	mv "$data.new" "$data"
fi
unset POSTGRES_PASSWORD POSTGRES_ADMIN_PASSWORD
exec postgres -D "$data" -c config_file="$config/postgresql.conf" -c hba_file="$config/pg_hba.conf" -c unix_socket_directories=/tmp
