package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/celauthz"
	"github.com/caddymcp/gateway/internal/mcpwire"
)

// maxCasesFile bounds a file of cases, in bytes.
const maxCasesFile = 4 << 20

// casesFile is a table of operations and what should become of them.
type casesFile struct {
	// Handler is the mcp_authorize that is meant, for all cases that do not
	// say it themselves.
	Handler handlerRef `json:"handler"`
	// Callers are claims by a name.
	Callers map[string]jsontext.Value `json:"callers"`
	Cases   []testCase                `json:"cases"`
}

// testCase is one line of the table.
type testCase struct {
	celauthz.Operation

	Name    string     `json:"name"`
	Handler handlerRef `json:"handler"`
	// As names the caller.
	As string `json:"as"`
	// Expect is the outcome, Rule the rule that decides; no rule means any.
	Expect string `json:"expect"`
	Rule   string `json:"rule"`
	// Scopes are all that the operation needs, with `expect: scope`.
	Scopes []string `json:"scopes"`
}

// handlerRef names a handler, by a number or a text.
type handlerRef string

// UnmarshalJSON implements json.Unmarshaler.
func (h *handlerRef) UnmarshalJSON(text []byte) error {
	value := jsontext.Value(text)
	name, isText := mcpwire.String(value)
	if !isText && value.Kind() != '0' {
		return errors.New("must be a number or a text")
	}
	if !isText {
		name = string(text)
	}
	*h = handlerRef(name)
	return nil
}

// outcomes are what can be expected.
var outcomes = []string{"allow", "deny", "hidden", "scope"}

// caseResult is what became of a case.
type caseResult struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Name string `json:"name"`
	// Operation is the method and the target.
	Operation string `json:"operation"`
	Passed    bool   `json:"passed"`
	Expected  ending `json:"expected"`
	Got       ending `json:"got"`
	Summary   string `json:"summary"`
}

// ending is how an operation ends.
type ending struct {
	Outcome string   `json:"outcome"`
	Rule    string   `json:"rule,omitzero"`
	Scopes  []string `json:"scopes,omitempty"`
}

func (e ending) String() string {
	text := e.Outcome
	if e.Rule != "" && e.Rule != e.Outcome {
		text += " by " + e.Rule
	}
	if len(e.Scopes) > 0 {
		text += ", needs " + strings.Join(e.Scopes, " ")
	}
	return text
}

// runCases plays a file through.
func runCases(ctx context.Context, config *configuration, name, which string) ([]caseResult, error) {
	text, err := readBounded(name, maxCasesFile)
	if err != nil {
		return nil, err
	}
	source, err := readYAML(name, text)
	if err != nil {
		return nil, err
	}
	var file casesFile
	if err := source.decode(&file); err != nil {
		return nil, err
	}
	if len(file.Cases) == 0 {
		return nil, fmt.Errorf("%s: has no cases", name)
	}
	results := make([]caseResult, 0, len(file.Cases))
	for i := range file.Cases {
		c := &file.Cases[i]
		line := source.line(fmt.Sprintf("/cases/%d", i))
		result, err := c.run(ctx, config, &file, which)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, line, err)
		}
		result.File, result.Line = name, line
		results = append(results, *result)
	}
	return results, nil
}

func (c *testCase) check(file *casesFile) error {
	switch {
	case !slices.Contains(outcomes, c.Expect):
		return fmt.Errorf("expect is one of %s", strings.Join(outcomes, ", "))
	case c.Scopes != nil && c.Expect != "scope":
		return errors.New("scopes go with `expect: scope`")
	case c.As != "" && c.Claims != nil:
		return errors.New("the caller is either named with as or described with claims")
	case c.As != "" && file.Callers[c.As] == nil:
		return fmt.Errorf("there is no caller %q", c.As)
	}
	return nil
}

func (c *testCase) run(ctx context.Context, config *configuration, file *casesFile, which string) (*caseResult, error) {
	if err := c.check(file); err != nil {
		return nil, err
	}
	for _, ref := range []handlerRef{file.Handler, c.Handler} {
		if ref != "" {
			which = string(ref)
		}
	}
	h, err := config.choose(which)
	if err != nil {
		return nil, err
	}
	if c.As != "" {
		c.Claims = file.Callers[c.As]
	}
	found, err := h.Explain(ctx, &c.Operation)
	if err != nil {
		return nil, err
	}
	if c.Rule != "" && c.Rule != "default" && c.Rule != "scope" && !slices.Contains(h.Rules, c.Rule) {
		return nil, fmt.Errorf("there is no rule %q", c.Rule)
	}
	result := &caseResult{
		Name: c.Name, Operation: strings.TrimSpace(c.Method + " " + c.Target),
		Expected: ending{c.Expect, c.Rule, c.Scopes}, Got: endingOf(found), Summary: found.Summary,
	}
	if result.Name == "" {
		result.Name = strings.TrimSpace(c.As + " " + result.Operation)
	}
	result.Passed = result.Got.Outcome == c.Expect && (c.Rule == "" || result.Got.Rule == c.Rule) &&
		(c.Scopes == nil || slices.Equal(result.Got.Scopes, c.Scopes))
	return result, nil
}

func endingOf(found *celauthz.Explanation) ending {
	e := ending{Outcome: found.Outcome, Rule: found.Rule}
	if found.Answer != nil {
		e.Scopes = found.Answer.Scopes
	}
	return e
}

// readBounded reads a file that is not larger than it may be.
func readBounded(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return os.ReadFile(name)
}
