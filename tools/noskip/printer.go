package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// counts holds tests and subtests alike.
type counts struct{ passed, failed, skipped int }

func (c *counts) add(o counts) {
	c.passed += o.passed
	c.failed += o.failed
	c.skipped += o.skipped
}

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.passed, c.failed, c.skipped)
}

// event is one line of `go test -json`; `go doc cmd/test2json` and `go help buildjson` describe it.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// printer turns events back into text. The output of a test is kept until the test ends, because it is worth
// printing only when the test has failed or was skipped.
type printer struct {
	out  io.Writer
	n    counts
	held map[string]map[string]*strings.Builder // by package, then by test
}

func newPrinter(out io.Writer) *printer {
	return &printer{out: out, held: map[string]map[string]*strings.Builder{}}
}

// line reads one line. What is no event is printed as it is.
func (p *printer) line(raw []byte) {
	var e event
	if json.Unmarshal(raw, &e) != nil || e.Action == "" {
		_, _ = p.out.Write(raw)
		return
	}
	switch e.Action {
	case "build-output":
		_, _ = io.WriteString(p.out, e.Output)
	case "output":
		p.output(e)
	case "pass", "fail", "skip":
		p.end(e)
	}
}

func (p *printer) output(e event) {
	if e.Test == "" {
		if e.Output != "PASS\n" { // the line that follows, `ok <package>`, says it
			_, _ = io.WriteString(p.out, e.Output)
		}
		return
	}
	tests := p.held[e.Package]
	if tests == nil {
		tests = map[string]*strings.Builder{}
		p.held[e.Package] = tests
	}
	b := tests[e.Test]
	if b == nil {
		b = &strings.Builder{}
		tests[e.Test] = b
	}
	b.WriteString(e.Output)
}

func (p *printer) end(e event) {
	if e.Test == "" {
		p.endPackage(e)
		return
	}
	switch e.Action {
	case "pass":
		p.n.passed++
	case "fail":
		p.n.failed++
		p.flush(e.Package, e.Test)
	case "skip":
		p.n.skipped++
		fmt.Fprintf(p.out, "a skipped test is a failure: %s %s\n", e.Package, e.Test)
		p.flush(e.Package, e.Test)
	}
	delete(p.held[e.Package], e.Test)
}

// endPackage prints what tests that never ended have left, after a panic or a timeout. A "skip" of a package means
// that it has no test files, which is no skipped test.
func (p *printer) endPackage(e event) {
	if e.Action == "fail" {
		for test := range p.held[e.Package] {
			p.flush(e.Package, test)
		}
	}
	delete(p.held, e.Package)
}

func (p *printer) flush(pkg, test string) {
	if b := p.held[pkg][test]; b != nil {
		_, _ = io.WriteString(p.out, b.String())
	}
}
