package main

import (
	"os"
	"slices"
	"testing"
	"time"
)

func TestProcessStat(t *testing.T) {
	// the name of a process may look like what follows it
	text := "4242 (a) R 1) (b) S 1 4242 4242 0 -1 4194560 1 0 0 0 120 30 7 7 20 0 1 0 1 1 1"
	if got, err := parseProcessStat([]byte(text)); err != nil || got != 1500*time.Millisecond {
		t.Errorf("%v, %v, want 1.5s", got, err)
	}
	for _, wrong := range []string{"", "4242 (name", "4242 (name) S 1 2", "1 (a) S 1 1 1 0 -1 1 1 0 0 0 x 30 7"} {
		if got, err := parseProcessStat([]byte(wrong)); err == nil {
			t.Errorf("%q: %v", wrong, got)
		}
	}
	if _, err := cpuTime(os.Getpid()); err != nil {
		t.Error(err)
	}
}

func TestMachineStat(t *testing.T) {
	// user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice
	text := "cpu  100 10 50 100000 2000 5 20 15 90 9\ncpu0 1 2 3 4 5 6 7 8 9 10\n"
	if got, err := parseMachineStat(text); err != nil || got != 2*time.Second {
		t.Errorf("%v, %v, want 2s", got, err)
	}
	for _, wrong := range []string{"", "cpu0 1 2 3 4 5 6 7 8", "cpu 1 2 3", "cpu 1 2 3 4 5 6 x 8"} {
		if got, err := parseMachineStat(wrong); err == nil {
			t.Errorf("%q: %v", wrong, got)
		}
	}
	if got, err := machineBusy(); err != nil || got == 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestCoreList(t *testing.T) {
	for list, want := range map[string][]int{"0-1": {0, 1}, "3": {3}, "0-2,5,8-9": {0, 1, 2, 5, 8, 9}} {
		if got, err := parseCoreList(list); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", list, got, err, want)
		}
	}
	for _, wrong := range []string{"", "a", "1-b"} {
		if got, err := parseCoreList(wrong); err == nil {
			t.Errorf("%q: %v", wrong, got)
		}
	}
	if _, _, err := cores(); err != nil {
		t.Error(err)
	}
}

func TestMemory(t *testing.T) {
	if rss, err := residentMemory(os.Getpid()); err != nil || rss < 1<<20 {
		t.Errorf("%v, %v", rss, err)
	}
	profile := "heap profile: 1: 2 [3: 4] @ heap/1048576\n\n# runtime.MemStats\n# HeapAlloc = 1000\n# HeapInuse = 7\n# Stack = 200 / 9999\n"
	if got, err := parseMemory(profile); err != nil || got != 1200 {
		t.Errorf("%v, %v, want 1200", got, err)
	}
	if got, err := parseMemory("# HeapAlloc = 1000\n"); err == nil {
		t.Errorf("without stacks: %v", got)
	}
}
