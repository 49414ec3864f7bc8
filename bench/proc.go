package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of times in /proc: USER_HZ, which is 100 on every
// architecture that Go runs on.
const tick = 10 * time.Millisecond

// cpuTime is the user and system time that a process has taken.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseProcessStat(text)
}

// parseProcessStat reads /proc/<pid>/stat. The name in parentheses may hold
// anything, so fields are counted from its end.
func parseProcessStat(text []byte) (time.Duration, error) {
	end := bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[end+1:]))
	if end < 0 || len(fields) < 13 {
		return 0, fmt.Errorf("not a process's stat: %q", text)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// machineBusy is the time that the cores were not idle, or were taken away by
// the hypervisor, since the machine started.
func machineBusy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseMachineStat(string(text))
}

// parseMachineStat sums up the first line of /proc/stat: user, nice, system,
// (idle, iowait,) irq, softirq and steal. Guests are part of user.
func parseMachineStat(text string) (time.Duration, error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("not the machine's stat: %q", line)
	}
	var sum time.Duration
	for i, field := range fields[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		if idle := i == 3 || i == 4; !idle {
			sum += time.Duration(n) * tick
		}
	}
	return sum, nil
}

// ownTime is the CPU time of this process.
func ownTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// residentMemory is in bytes.
func residentMemory(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	value, err := statusLine(text, "VmRSS")
	if err != nil {
		return 0, err
	}
	kilobytes, err := strconv.ParseFloat(strings.TrimSuffix(value, " kB"), 64)
	return kilobytes * 1024, err
}

// statusLine finds a line of /proc/<pid>/status.
func statusLine(text []byte, name string) (string, error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("no %s in status", name)
}

// cores returns the core for the server and the one for everything else. With
// one core only, they are the same.
func cores() (server, load string, err error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "", "", err
	}
	list, err := statusLine(text, "Cpus_allowed_list")
	if err != nil {
		return "", "", err
	}
	allowed, err := parseCoreList(list)
	if err != nil {
		return "", "", err
	}
	return strconv.Itoa(allowed[0]), strconv.Itoa(allowed[min(1, len(allowed)-1)]), nil
}

// parseCoreList reads a list like 0-2,5.
func parseCoreList(list string) (cores []int, err error) {
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, err := strconv.Atoi(first)
		if err != nil {
			return nil, err
		}
		to := from
		if isRange {
			if to, err = strconv.Atoi(last); err != nil {
				return nil, err
			}
		}
		for core := from; core <= to; core++ {
			cores = append(cores, core)
		}
	}
	return cores, nil
}
