package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"

	"github.com/caddymcp/gateway/celauthz"
)

// maxLogLine bounds a line of an audit log, in bytes.
const maxLogLine = 1 << 20

// replayed is what new rules make of an audit log.
type replayed struct {
	File string `json:"file"`
	// Decisions are the lines about decisions: unchanged, changed and
	// undecided ones.
	Decisions int `json:"decisions"`
	Unchanged int `json:"unchanged"`
	Changed   int `json:"changed"`
	Undecided int `json:"undecided"`
	// Ignored are the lines of other logs.
	Ignored int `json:"ignored"`

	Changes       []*sameLines `json:"changes"`
	UndecidedWhat []*sameLines `json:"undecided_decisions"`

	seen map[celauthz.Replayed]*sameLines
}

// sameLines are lines that say the same.
type sameLines struct {
	celauthz.Replayed

	Count int `json:"count"`
	// Line is the first of them.
	Line int `json:"line"`
}

func replayFile(c *call, h *handler, name string) (*replayed, error) {
	source := c.cmd.InOrStdin()
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		source = file
	}
	found := &replayed{File: name, Changes: []*sameLines{}, UndecidedWhat: []*sameLines{}, seen: make(map[celauthz.Replayed]*sameLines)}
	replayer, err := celauthz.NewReplayer(h.Handler)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(source)
	lines.Buffer(nil, maxLogLine)
	number := 0
	for lines.Scan() {
		number++
		if len(lines.Bytes()) == 0 {
			continue
		}
		one, err := replayer.Replay(c.cmd.Context(), lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("%s:%d: not a line of a JSON log: %w", name, number, err)
		}
		found.add(number, one)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s:%d: %w", name, number+1, err)
	}
	if found.Decisions == 0 {
		return nil, fmt.Errorf("%s holds no decisions of mcp_authorize", name)
	}
	return found, nil
}

func (r *replayed) add(number int, one *celauthz.Replayed) {
	if one == nil {
		r.Ignored++
		return
	}
	r.Decisions++
	list := &r.Changes
	switch one.After {
	case one.Before:
		r.Unchanged++
		return
	case celauthz.Undecided:
		r.Undecided++
		list = &r.UndecidedWhat
	default:
		r.Changed++
	}
	same := r.seen[*one]
	if same == nil {
		same = &sameLines{Replayed: *one, Line: number}
		r.seen[*one] = same
		*list = append(*list, same)
	}
	same.Count++
}

func (r *replayed) show(w io.Writer) {
	fmt.Fprintf(w, "%s: %s, %d unchanged, %d changed, %d undecided\n",
		r.File, plural(r.Decisions, "decision"), r.Unchanged, r.Changed, r.Undecided)
	for _, s := range r.Changes {
		fmt.Fprintf(w, "\nCHANGED %s:%d: %s\n", r.File, s.Line, s)
		fmt.Fprintf(w, "- %s\n", ending{Outcome: s.Before, Rule: s.BeforeRule})
		fmt.Fprintf(w, "+ %s\n", ending{Outcome: s.After, Rule: s.AfterRule})
	}
	for _, s := range r.UndecidedWhat {
		fmt.Fprintf(w, "\nUNDECIDED %s:%d: %s\n", r.File, s.Line, s)
		fmt.Fprintf(w, "  was %s; %s\n", ending{Outcome: s.Before, Rule: s.BeforeRule}, s.Detail)
	}
}

// String says who did what, and how often.
func (s *sameLines) String() string {
	who := s.Subject
	if who == "" {
		who = "somebody"
	}
	if s.Issuer != "" {
		who += " of " + s.Issuer
	}
	return fmt.Sprintf("%dx %s %s, by %s", s.Count, s.Method, s.Target, who)
}
