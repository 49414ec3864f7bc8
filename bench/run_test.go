package main

import (
	"testing"
	"time"
)

func TestSpoilt(t *testing.T) {
	p := plan{runs: 7, foreign: 0.1}
	for _, c := range []struct {
		kind    kind
		foreign float64
		want    bool
	}{{calls, 0.05, false}, {calls, 0.2, true}, {events, 0.2, true}, {idle, 0.2, false}} {
		if got := p.spoilt(group{kind: c.kind}, sample{foreign: c.foreign}); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if p.rounds(group{kind: calls}) != 7 || p.rounds(group{kind: calls, thin: true}) != 14 || p.rounds(group{kind: idle}) != 3 {
		t.Error("wrong number of rounds")
	}
	p.duration = 3 * time.Second
	if p.turns(group{kind: calls}) != 3 || p.turns(group{kind: events}) != 3 || p.turns(group{kind: idle}) != 1 || (plan{}).turns(group{}) != 1 {
		t.Error("wrong number of turns")
	}
}

// Other load must be seen, and our own must not be taken for it. A test cannot
// know what else the machine is doing, but it can add to it.
func TestForeignLoadIsSeen(t *testing.T) {
	before, err := machineBusy()
	if err != nil {
		t.Fatal(err)
	}
	own := ownTime()
	for ownTime() < own+200*time.Millisecond { // busy, not idle
	}
	after, err := machineBusy()
	if err != nil {
		t.Fatal(err)
	}
	// the kernel counts ticks of 10 ms, so allow for half of them
	if got := after - before; got < 100*time.Millisecond {
		t.Errorf("200 ms of work look like %v", got)
	}
}
