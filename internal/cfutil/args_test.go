package cfutil

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// at returns a dispenser that stands at the first token of a line.
func at(line string) *caddyfile.Dispenser {
	d := caddyfile.NewTestDispenser(line)
	d.Next()
	return d
}

func TestNoArgs(t *testing.T) {
	if err := NoArgs(at("option")); err != nil {
		t.Error(err)
	}
	if err := NoArgs(at("option\nnext")); err != nil {
		t.Error(err)
	}
	if err := NoArgs(at("option off")); err == nil || !strings.Contains(err.Error(), "Testfile:1") {
		t.Errorf("an argument: %v", err)
	}
}

func TestOneArg(t *testing.T) {
	for line, want := range map[string]string{"option a": "a", "option \"a b\"\nnext": "a b", "option `{}`": "{}"} {
		var text string
		if err := OneArg(at(line), &text); err != nil || text != want {
			t.Errorf("%s: %q, %v", line, text, err)
		}
	}
	for _, line := range []string{"option", "option a b", `option ""`, "option\nnext"} {
		var text string
		if err := OneArg(at(line), &text); err == nil || !strings.Contains(err.Error(), "Testfile:1") {
			t.Errorf("%s: %q, %v", line, text, err)
		}
	}
	text := "first"
	err := OneArg(at("option second"), &text)
	if err == nil || !strings.Contains(err.Error(), "option is given twice") || text != "first" {
		t.Errorf("given twice: %q, %v", text, err)
	}
}

func TestArgs(t *testing.T) {
	var texts []string
	for _, line := range []string{"option a", "option b c\nnext"} {
		if err := Args(at(line), &texts); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"a", "b", "c"}; !slices.Equal(texts, want) {
		t.Errorf("%q, want %q", texts, want)
	}
	if err := Args(at("option"), &texts); err == nil || len(texts) != 3 {
		t.Errorf("no arguments: %q, %v", texts, err)
	}
}

func TestErrAt(t *testing.T) {
	d := caddyfile.NewTestDispenser("first\n\nsecond {\n}")
	d.Next()
	d.Next()
	start := d.Token()
	for d.NextBlock(0) {
	}
	cause := errors.New("wrong in itself")
	err := ErrAt(start, cause)
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "Testfile:3") {
		t.Errorf("%v, want the cause and line 3", err)
	}
}

func TestSize(t *testing.T) {
	for line, want := range map[string]int64{
		"max_body 1": 1, "max_body 1B": 1, "max_body 4KiB": 4096, "max_body 4kb": 4000, `max_body "1 MiB"`: 1 << 20, "max_body 1048576": 1 << 20,
	} {
		if got, err := Size(at(line), 1<<20); err != nil || got != want {
			t.Errorf("%s: %d, %v", line, got, err)
		}
	}
	for _, line := range []string{
		"max_body 0", "max_body -1", "max_body 1048577", "max_body 2MiB", "max_body big", "max_body 99999999999999999999", "max_body 16EiB",
	} {
		_, argument, _ := strings.Cut(line, " ")
		want := `max_body must be a size between 1B and 1MiB, not "` + argument + `"`
		if got, err := Size(at(line), 1<<20); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Testfile:1") {
			t.Errorf("%s: %d, %v", line, got, err)
		}
	}
	for _, line := range []string{"max_body", "max_body 1 2"} {
		if got, err := Size(at(line), 1<<20); err == nil {
			t.Errorf("%s: %d", line, got)
		}
	}
}

func TestDuration(t *testing.T) {
	for line, want := range map[string]time.Duration{
		"leeway 0": 0, "leeway 0s": 0, "leeway 90s": 90 * time.Second, "leeway 5m": 5 * time.Minute, "leeway 1.5s": 1500 * time.Millisecond,
	} {
		if got, err := Duration(at(line), 5*time.Minute); err != nil || got == nil || time.Duration(*got) != want {
			t.Errorf("%s: %v, %v", line, got, err)
		}
	}
	for _, line := range []string{"leeway -1s", "leeway 5m1ns", "leeway 60", "leeway soon", "leeway 1d", "leeway 999999999h"} {
		_, argument, _ := strings.Cut(line, " ")
		want := `leeway must be a duration between 0 and 5m0s, not "` + argument + `"`
		if got, err := Duration(at(line), 5*time.Minute); err == nil || got != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", line, got, err)
		}
	}
	for _, line := range []string{"leeway", "leeway 1s 2s"} {
		if got, err := Duration(at(line), 5*time.Minute); err == nil {
			t.Errorf("%s: %v", line, got)
		}
	}
}
