// Command noskip runs `go test` in each of the given module folders and is stricter than it: a skipped test is a
// failure, and so is a folder in which no test ran at all. A test that quietly does not run proves nothing.
//
//	noskip . examples test/e2e -- -race ./...
//
// It prints what `go test` prints without -v, and at the end one line for all folders together:
//
//	123 passed, 0 failed, 0 skipped
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
)

func main() {
	dirs, args, err := split(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "noskip:", err)
		os.Exit(2)
	}
	if !run(os.Stdout, dirs, args) {
		os.Exit(1)
	}
}

// split parts the command line at "--": module folders before it, arguments of `go test` after it.
func split(argv []string) (dirs, args []string, err error) {
	i := slices.Index(argv, "--")
	if i < 1 {
		return nil, nil, errors.New("usage: noskip <module folder>... -- <go test arguments>")
	}
	return argv[:i], argv[i+1:], nil
}

// run tests every folder, even after one has failed, and reports whether all of them are good.
func run(out io.Writer, dirs, args []string) bool {
	good := true
	var total counts
	for _, dir := range dirs {
		n, err := testDir(out, dir, args)
		total.add(n)
		switch {
		case err != nil:
			fmt.Fprintf(out, "FAIL %s: %v\n", dir, err)
			good = false
		case n.failed > 0 || n.skipped > 0:
			good = false
		case n.passed == 0:
			fmt.Fprintf(out, "FAIL %s: no test ran\n", dir)
			good = false
		}
	}
	fmt.Fprintln(out, total)
	return good
}

// testDir runs `go test -json` in one folder. The error is that of the go command, which is also non-zero for what
// no test event tells: a package that does not build, a wrong flag.
func testDir(out io.Writer, dir string, args []string) (counts, error) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return counts{}, err
	}
	if err := cmd.Start(); err != nil {
		return counts{}, err
	}
	p := newPrinter(out)
	lines := bufio.NewReader(stdout) // not a Scanner: a line of output has no bound
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			p.line(line)
		}
		if err != nil {
			break
		}
	}
	return p.n, cmd.Wait()
}
