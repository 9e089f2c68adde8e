#!/bin/sh
# The secrets of a deployment, a file each, into ./secrets or the folder named: made where they are missing, kept where they are.
# Containers read them as users of their own, so the files are open to all and the folder to its owner alone.
set -eu
folder=${1:-secrets}
mkdir -p "$folder"
chmod 700 "$folder"
for name in postgres_password valkey_password flower_password grafana_password; do
    if [ -s "$folder/$name" ]; then
        echo "kept $folder/$name"
        continue
    fi
    # Written beside and moved: whoever interrupts this leaves no half of one.
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$folder/$name.new"
    chmod 444 "$folder/$name.new"
    mv "$folder/$name.new" "$folder/$name"
    echo "made $folder/$name"
done
