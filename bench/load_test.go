package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

const wrkResult = "  1000 requests in 2.00s, 1.00MB read\nRequests/sec: 500\n" +
	"RESULT requests=1000 duration_us=2000000 p50_us=150 p99_us=900 connect=0 read=0 write=0 status=0 timeout=0\n"

func TestParseWrk(t *testing.T) {
	got, err := parseWrk(wrkResult)
	want := sample{requests: 1000, elapsed: 2 * time.Second, p50: 150 * time.Microsecond, p99: 900 * time.Microsecond}
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for _, problem := range []string{"connect", "read", "write", "status", "timeout"} {
		if _, err := parseWrk(strings.Replace(wrkResult, problem+"=0", problem+"=3", 1)); err == nil {
			t.Errorf("a run with 3 errors of the kind %s counts", problem)
		}
	}
	if _, err := parseWrk("unable to connect to 127.0.0.1:1\n"); err == nil {
		t.Error("a run without a result counts")
	}
	if _, err := parseWrk(strings.Replace(wrkResult, "requests=1000", "requests=0", 1)); !errors.Is(err, errNothing) {
		t.Errorf("a run without an answer: %v", err)
	}
}

const h2loadResult = `starting benchmark...
TLS Protocol: TLSv1.3
Application protocol: h2

finished in 2.50s, 400.00 req/s, 1.00MB/s
requests: 1000 total, 1016 started, 1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx
`

func TestParseH2load(t *testing.T) {
	log := "1700000000000000\t200\t300\n1700000000000300\t200\t100\n1700000000000400\t200\t200\n"
	got, err := parseH2load(h2loadResult, log)
	want := sample{requests: 1000, elapsed: 2500 * time.Millisecond, p50: 200 * time.Microsecond, p99: 300 * time.Microsecond}
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for what, edit := range map[string][2]string{
		"HTTP/1.1":  {"protocol: h2", "protocol: http/1.1"},
		"failed":    {"0 failed", "1 failed"},
		"errored":   {"0 errored", "1 errored"},
		"timeout":   {"0 timeout", "1 timeout"},
		"403":       {"0 4xx", "1 4xx"},
		"502":       {"0 5xx", "1 5xx"},
		"no result": {"finished", "begun"},
	} {
		if _, err := parseH2load(strings.Replace(h2loadResult, edit[0], edit[1], 1), log); err == nil {
			t.Errorf("a run counts in spite of: %s", what)
		}
	}
	if _, err := parseH2load(h2loadResult, "1700000000000000\t200\n"); err == nil {
		t.Error("a log without latencies counts")
	}
	if _, err := parseH2load(h2loadResult, ""); !errors.Is(err, errNothing) {
		t.Errorf("an empty log: %v", err)
	}
}
