#!/usr/bin/env bash
# Scans the given module folders with govulncheck, for calls of code with known vulnerabilities:
#
#   scripts/vuln.sh . examples
#
# VULNDB is the vulnerability database, the Go project's by default; a mirror or a file:// folder will do. A canary
# that is known to be vulnerable is scanned first, so that a scan which can find nothing is never taken for a clean one.
#
# A database that cannot be reached is a failure, unless VULNDB_UNREACHABLE=warn says that there is no way to it from
# here. Then the scan runs on the few records that govulncheck ships for its own tests (pinned by its go.sum): that
# proves that the tool works and that every module can be analysed, but of vulnerabilities it tells next to nothing,
# and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

govulncheck=$PWD/.tools/govulncheck
canary=tools/govulncheck/testdata/canary
db=${VULNDB:-https://vuln.go.dev}

# A govulncheck that has found something exits with 3; anything else but 0 is a fault of the scan itself.
canary_is_found() {
	local rc=0
	canary_says=$("$govulncheck" -db "$db" -C "$canary" ./... 2>&1) || rc=$?
	[[ $rc == 3 && $canary_says == *GO-2021-0113* ]]
}

unreached=
if ! canary_is_found; then
	if [[ ${VULNDB_UNREACHABLE:-} != warn || $canary_says != *"fetching vulnerabilities"* ]]; then
		printf '%s\nvuln: the scan of %s did not report GO-2021-0113; database: %s\n' "$canary_says" "$canary" "$db" >&2
		exit 1
	fi
	unreached=$db
	db=file://$(go -C tools/govulncheck list -m -f '{{.Dir}}' golang.org/x/vuln)/cmd/govulncheck/testdata/common/vulndb-v1
	if ! canary_is_found; then
		printf '%s\nvuln: the scan of %s did not report GO-2021-0113; database: %s\n' "$canary_says" "$canary" "$db" >&2
		exit 1
	fi
fi

failed=
for module in "$@"; do
	echo "vuln: $module${unreached:+ (only with the records shipped for tests)}"
	"$govulncheck" -db "$db" -C "$module" ./... || failed+=" $module"
done
if [[ $unreached ]]; then
	echo "vuln: WARNING: $unreached cannot be reached from here. This was NOT a scan against the current database:"
	echo "vuln: WARNING: the tool works and found the canary, but it knew only the $(ls "${db#file://}"/ID/*.json | wc -l) records of its own tests."
	echo "vuln: WARNING: run 'make vuln' where the database can be reached before a release."
fi
if [[ $failed ]]; then
	echo "vuln: failed:$failed" >&2
	exit 1
fi
