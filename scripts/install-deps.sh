#!/usr/bin/env bash
# Installs what the tests need from Debian, as root. Every program a test starts that neither Go nor npm brings belongs
# into `packages`; the tools of the Makefile do not: it builds them, pinned, from tools/.
set -euo pipefail

packages=(chromium curl nghttp2-client wrk)

missing=()
for p in "${packages[@]}"; do
	dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
done
if ((${#missing[@]})); then
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q
	apt-get install -qy --no-install-recommends "${missing[@]}"
fi
