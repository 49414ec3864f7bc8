#!/usr/bin/env bash
# Runs every fuzz target of the given module folders for a while each, one after the other. New targets need no
# registration: `go test -list` finds them.
#
#   FUZZTIME=30s scripts/fuzz.sh . examples
set -euo pipefail
cd "$(dirname "$0")/.."

for module in "$@"; do
	# A package's line, `ok <package> <time>`, follows the names of its targets.
	listing=$(go -C "$module" test -list '^Fuzz' ./...) || {
		echo "$listing"
		exit 1
	}
	names=()
	while read -r first second _; do
		case $first in
		Fuzz*) names+=("$first") ;;
		ok)
			for name in "${names[@]}"; do
				echo "fuzz: $second $name"
				go -C "$module" test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-30s}" -parallel "${FUZZPARALLEL:-2}" "$second"
			done
			names=()
			;;
		esac
	done <<<"$listing"
done
