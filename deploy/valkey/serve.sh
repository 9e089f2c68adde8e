#!/bin/sh
# Valkey with the users of users.acl; what it is given, it gives to valkey-server besides.
# The password comes by a file and becomes a hash in a file: an argument could be read in the process table.
set -eu
secret=${VALKEY_PASSWORD_FILE:-/run/secrets/valkey_password}
run=${VALKEY_RUN_DIR:-/run/valkey}
password=$(cat "$secret")
[ -n "$password" ] || { echo "$secret: expected the password of the user stoker, got an empty file" >&2; exit 1; }
hash=$(printf %s "$password" | sha256sum)
hash=${hash%% *}
umask 077
# An ACL file knows no comments, and a user is one line of it.
while read -r line; do
    case $line in
        '' | '#'*) ;;
        *STOKER_PASSWORD*) printf '\n%s' "${line%%STOKER_PASSWORD*}$hash${line#*STOKER_PASSWORD}" ;;
        user*) printf '\n%s' "$line" ;;
        *) printf ' %s' "$line" ;;
    esac
done <"$(dirname "$0")/users.acl" >"$run/users.acl"
exec valkey-server --aclfile "$run/users.acl" --appendonly yes --save '' --maxmemory-policy noeviction "$@"
