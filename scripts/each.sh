#!/usr/bin/env bash
# Runs a command in each of the given folders, in all of them even after one has failed, and fails if any did.
#
#   scripts/each.sh . examples -- go mod tidy -diff
set -euo pipefail
cd "$(dirname "$0")/.."

dirs=()
while [[ $1 != -- ]]; do
	dirs+=("$1")
	shift
done
shift

failed=
for dir in "${dirs[@]}"; do
	(cd "$dir" && "$@") || failed+=" $dir"
done
if [[ $failed ]]; then
	echo "failed in:$failed: $*" >&2
	exit 1
fi
