#!/bin/sh
# backup.sh STORE COPY: copy the folder of a store (docs/operations.md), also while a proxy uses it.
# Into a COPY of before, only what is new is copied.
set -eu
[ $# = 2 ] && [ -f "$1/store.json" ] || { echo "usage: backup.sh STORE COPY, where STORE has a store.json" >&2; exit 2; }
store=$1 copy=$2
umask 077
mkdir -p "$copy/index" "$copy/heads"

# The index first, in one transaction: heads that are stored meanwhile are then only superfluous.
rm -f "$copy/index/new.db"
sqlite3 "$store/index/cache.db" "VACUUM INTO '$(printf %s "$copy/index/new.db" | sed "s/'/''/g")'"

# Heads never change. One that is evicted meanwhile is missing in the copy, like its recording in the store.
cp -au "$store/heads/." "$copy/heads/"
(cd "$copy/heads" && find . -type f) | while read -r head; do
  [ -e "$store/heads/$head" ] || rm -f "$copy/heads/$head"
done
for other in "$store"/*; do
  case ${other##*/} in
    index*|heads|pictures) ;; # pictures are drawn again
    *) cp -a "$other" "$copy/" ;;
  esac
done

rm -f "$copy/index/cache.db-wal" "$copy/index/cache.db-shm"
mv "$copy/index/new.db" "$copy/index/cache.db"
