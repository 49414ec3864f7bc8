package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
)

const caddyModule = "github.com/caddyserver/caddy/v2"

// versions describes what is compared, and where. It fails when the two
// Caddies are not built from the same versions.
func (l *lab) versions(ctx context.Context) ([]string, error) {
	plain, err := buildinfo.ReadFile(l.plain)
	if err != nil {
		return nil, err
	}
	gateway, err := buildinfo.ReadFile(l.gateway)
	if err != nil {
		return nil, err
	}
	if err := sameVersions(plain, gateway); err != nil {
		return nil, err
	}
	commit, _, err := command(ctx, "..", "git", "describe", "--always", "--dirty")
	if err != nil {
		commit = "unknown" // not a clone
	}
	// wrk -v says how to call it as well, and exits with 1
	wrk, _, err := command(ctx, l.dir, "sh", "-c", "wrk -v | head -1")
	if err != nil {
		return nil, err
	}
	h2load, _, err := command(ctx, l.dir, "h2load", "--version")
	if err != nil {
		return nil, err
	}
	wrk, _, _ = strings.Cut(wrk, " Copyright")
	return []string{
		"gateway: commit " + strings.TrimSpace(commit),
		"Caddy " + versionOf(plain, caddyModule) + " and all its dependencies are the same in both, built with " + gateway.GoVersion,
		"Go SDK " + sdkVersion(),
		"load: " + strings.TrimSpace(wrk) + "; " + strings.TrimSpace(h2load) + " for HTTP/2",
		fmt.Sprintf("%s, %d cores (%s/%s)", processor(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH),
	}, nil
}

// sameVersions complains about dependencies of plain that differ in the other
// program.
func sameVersions(plain, other *buildinfo.BuildInfo) error {
	if plain.GoVersion != other.GoVersion {
		return fmt.Errorf("built with %s and %s", plain.GoVersion, other.GoVersion)
	}
	if versionOf(plain, caddyModule) == "" {
		return errors.New("there is no Caddy in the plain Caddy")
	}
	for _, dependency := range plain.Deps {
		if got := versionOf(other, dependency.Path); got != dependency.Version {
			return fmt.Errorf("%s is %s in plain Caddy and %q in the gateway", dependency.Path, dependency.Version, got)
		}
	}
	return nil
}

func versionOf(info *buildinfo.BuildInfo, module string) string {
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return dependency.Version
		}
	}
	return ""
}

// sdkVersion is that of this program, which is the candidate.
func sdkVersion() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	info, err := buildinfo.ReadFile(self)
	if err != nil {
		return ""
	}
	return versionOf(info, "github.com/modelcontextprotocol/go-sdk")
}

// processor is the model of the first core.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}
