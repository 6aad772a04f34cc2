#!/bin/sh
# Writes infra/compose.env: what is named in compose.env.example, each with a random value.
# An env file that is there already is kept.
set -eu
cd "$(dirname "$0")"
file=${1:-compose.env}
if [ -e "$file" ]; then
  echo "$file: kept as it is; remove it for new secrets"
  exit 0
fi
umask 077
while IFS='=' read -r name _; do
  case $name in
    '' | \#*) ;;
    *) printf '%s=%s\n' "$name" "$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" ;;
  esac
done < compose.env.example > "$file.new"
mv "$file.new" "$file"
echo "$file: written, for its owner only"
