package mcpwire

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// passing is a copy of an event, which is only valid while it is emitted.
type passing struct {
	raw, data string
	hasData   bool
	foreign   bool
	replaced  string // the event with the data NEW
	dropped   string // the event without data
}

// byEvent is the size of pieces that end where blank lines do.
const byEvent = -1

// splitStream hands a stream over in pieces of the given size, 0 for all of
// it at once, and returns what came out.
func splitStream(stream string, size, limit int) (events []passing, err error) {
	s := Splitter{Limit: limit, Emit: func(e *Event) error {
		events = append(events, passing{
			string(e.Raw), string(e.Data), e.Data != nil, e.Foreign,
			string(e.WithData([]byte("NEW"))), string(e.WithData(nil)),
		})
		return nil
	}}
	for rest := []byte(stream); len(rest) > 0; {
		n := len(rest)
		if end := bytes.Index(rest, []byte("\n\n")); size == byEvent && end >= 0 {
			n = end + 2
		} else if size > 0 {
			n = min(n, size)
		}
		piece := bytes.Clone(rest[:n])
		if err := s.Write(piece); err != nil {
			return events, err
		}
		clear(piece) // nobody may still look at it
		rest = rest[n:]
	}
	s.Close()
	return events, nil
}

// dataOf are the payloads among events, with those that have none left out.
func dataOf(events []passing) []string {
	data := []string{}
	for _, e := range events {
		if e.hasData {
			data = append(data, e.data)
		}
	}
	return data
}

// clientData is what a client makes of a stream (HTML standard, 9.2.6),
// written as plainly as that says it.
func clientData(stream string) []string {
	stream = strings.TrimPrefix(stream, "\ufeff")
	stream = strings.ReplaceAll(stream, "\r\n", "\n")
	stream = strings.ReplaceAll(stream, "\r", "\n")
	lines := strings.Split(stream, "\n")
	dispatched := []string{}
	var data []string
	for _, line := range lines[:len(lines)-1] { // the last one has no end
		name, value, _ := strings.Cut(line, ":")
		switch {
		case line == "":
			if data != nil {
				dispatched = append(dispatched, strings.Join(data, "\n"))
			}
			data = nil
		case name == "data":
			data = append(data, strings.TrimPrefix(value, " "))
		}
	}
	return dispatched
}

// lineEnds are the ways to end the lines of a stream.
var lineEnds = map[string]func(string) string{
	"LF":   func(s string) string { return s },
	"CR":   func(s string) string { return strings.ReplaceAll(s, "\n", "\r") },
	"CRLF": func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
	"mixed": func(s string) string {
		ends := []string{"\r\n", "\n", "\r"}
		var b strings.Builder
		for i, line := range strings.SplitAfter(s, "\n") {
			if text, ok := strings.CutSuffix(line, "\n"); ok {
				line = text + ends[i%len(ends)]
				if strings.HasSuffix(b.String(), "\r") && line == "\n" {
					line = "\r" // a LF would belong to the line before
				}
			}
			b.WriteString(line)
		}
		return b.String()
	},
}

func TestSplitterData(t *testing.T) {
	cases := map[string]struct {
		stream string
		want   []string
	}{
		"one event":                       {"data: a\n\n", []string{"a"}},
		"two events":                      {"data: a\n\ndata: b\n\n", []string{"a", "b"}},
		"no blank behind the colon":       {"data:a\n\n", []string{"a"}},
		"only one blank is taken":         {"data:  a \n\n", []string{" a "}},
		"several lines":                   {"data: a\ndata: b\ndata:\n" + "data: c\n\n", []string{"a\nb\n\nc"}},
		"other fields around":             {"event: message\nid: 7\ndata: a\nretry: 5\n\n", []string{"a"}},
		"other fields between":            {"data: a\nid: 7\ndata: b\n\n", []string{"a\nb"}},
		"a colon in the data":             {"data: a: b\n\n", []string{"a: b"}},
		"data without a colon":            {"data\n\n", []string{""}},
		"a priming event":                 {"id: 1\nretry: 500\ndata:\n\n" + "data: a\n\n", []string{"", "a"}},
		"an event of an id alone":         {"id: 1\n\ndata: a\n\n", []string{"a"}},
		"comments":                        {": x\n\n:\ndata: a\n: y\ndata: b\n\n", []string{"a\nb"}},
		"a field that only starts so":     {"data2: x\ndatax\ndata : z\ndata: a\n\n", []string{"a"}},
		"names have a case":               {"DATA: x\ndata: a\n\n", []string{"a"}},
		"blanks before a name":            {" data: x\ndata: a\n\n", []string{"a"}},
		"a byte order mark":               {"\ufeffdata: a\n\n", []string{"a"}},
		"a mark before a comment":         {"\ufeff: x\ndata: a\n\n", []string{"a"}},
		"a mark before a blank line":      {"\ufeff\ndata: a\n\n", []string{"a"}},
		"a mark further on is no mark":    {"data: a\n\n\ufeffdata: x\ndata: b\n\n", []string{"a", "b"}},
		"a mark on a later line is none":  {"data: a\n\ufeffdata: x\n\n", []string{"a"}},
		"two marks":                       {"\ufeff\ufeffdata: x\ndata: a\n\n", []string{"a"}},
		"many blank lines":                {"\n\n\ndata: a\n\n\n\n", []string{"a"}},
		"no blank line at the end":        {"data: a\n\ndata: x\n", []string{"a"}},
		"no line end at the end":          {"data: a\n\ndata: x", []string{"a"}},
		"nothing":                         {"", []string{}},
		"NUL and other bytes are no ends": {"data: a\x00\v\f\x1c\u0085\u2028b\n\n", []string{"a\x00\v\f\x1c\u0085\u2028b"}},
	}
	for name, c := range cases {
		for end, convert := range lineEnds {
			t.Run(name+" "+end, func(t *testing.T) {
				stream := convert(c.stream)
				if reference := clientData(stream); !slices.Equal(reference, c.want) {
					t.Fatalf("a client reads %q", reference)
				}
				for _, size := range []int{0, 1, 2, 3} {
					events, err := splitStream(stream, size, 1<<20)
					if err != nil {
						t.Fatal(err)
					}
					if got := dataOf(events); !slices.Equal(got, c.want) {
						t.Errorf("in pieces of %d: %q, want %q", size, got, c.want)
					}
				}
			})
		}
	}
}

// All that comes in goes out, in order; only an event that never ends stays.
func TestSplitterKeepsEveryByte(t *testing.T) {
	stream := "\ufeff: hello\nid: 1\ndata:\n\n\n" + "data: a\nfoo\ndata: b\nretry: 3\n\n: bye\n\n"
	for end, convert := range lineEnds {
		t.Run(end, func(t *testing.T) {
			for _, size := range []int{0, 1, 2, 7} {
				events, err := splitStream(convert(stream)+"data: left", size, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				var out strings.Builder
				for _, e := range events {
					out.WriteString(e.raw)
				}
				if out.String() != convert(stream) {
					t.Errorf("in pieces of %d: %q", size, out.String())
				}
			}
		})
	}
}

// An event whose payload changes keeps its other fields where they were, and
// is still one event to its reader, whatever ends its lines.
func TestSplitterReplacesData(t *testing.T) {
	cases := map[string]struct{ event, want, dropped string }{
		"data only":       {"data: a\n\n", "data: NEW\n\n", "\n"},
		"id before":       {"id: 1\ndata: a\n\n", "id: 1\ndata: NEW\n\n", "id: 1\n\n"},
		"id behind":       {"data: a\nid: 1\n\n", "data: NEW\nid: 1\n\n", "id: 1\n\n"},
		"id between":      {"data: a\nid: 1\ndata: b\n\n", "data: NEW\nid: 1\n\n", "id: 1\n\n"},
		"all there is":    {"event: message\nid: 1\ndata:a\nretry: 5\n: x\n\n", "event: message\nid: 1\ndata: NEW\nretry: 5\n: x\n\n", "event: message\nid: 1\nretry: 5\n: x\n\n"},
		"what is no line": {"{\"result\":\ndata: a\nid: 1\n\n", "data: NEW\nid: 1\n\n", "id: 1\n\n"},
		"a mark":          {"\ufeffid: 1\ndata: a\n\n", "id: 1\ndata: NEW\n\n", "id: 1\n\n"},
	}
	for name, c := range cases {
		for end, convert := range lineEnds {
			t.Run(name+" "+end, func(t *testing.T) {
				events, err := splitStream(convert(c.event), 1, 1<<20)
				if err != nil || len(events) == 0 {
					t.Fatal(events, err)
				}
				if got := events[0].replaced; got != c.want {
					t.Errorf("replaced %q, want %q", got, c.want)
				}
				if got := events[0].dropped; got != c.dropped {
					t.Errorf("dropped %q, want %q", got, c.dropped)
				}
				// the rest of a CRLF follows by itself, and an event after it
				stream := events[0].replaced + convert("\n") + convert("data: b\n\n")
				if got := clientData(stream); !slices.Equal(got, []string{"NEW", "b"}) {
					t.Errorf("a client reads %q", got)
				}
				stream = events[0].dropped + convert("data: b\n\n")
				if got := clientData(stream); !slices.Equal(got, []string{"b"}) {
					t.Errorf("without data, a client reads %q", got)
				}
			})
		}
	}
}

// A line that is no field is not for clients, but JSON could hide in it.
// TestWithDataOfSeveralLines: what has several lines has as many fields.
func TestWithDataOfSeveralLines(t *testing.T) {
	var out []byte
	s := Splitter{Limit: 100, Emit: func(e *Event) error {
		out = append(out, e.WithData(e.Data)...)
		return nil
	}}
	if err := s.Write([]byte("foo: bar\nid: 1\ndata: a\ndata:  b\nevent: x\ndata\n\n")); err != nil {
		t.Fatal(err)
	}
	if want := "id: 1\ndata: a\ndata:  b\ndata: \nevent: x\n\n"; string(out) != want {
		t.Errorf("%q, want %q", out, want)
	}
}

func TestSplitterForeign(t *testing.T) {
	for stream, want := range map[string]bool{
		"data: a\n\n":                false,
		": a\n\n":                    false,
		"id\nevent\nretry\ndata\n\n": false,
		"{\"a\":1}\n\n":              true,
		"data: a\n{\"a\":1}\n\n":     true,
		"Data: a\n\n":                true,
		"\ufeffid: 1\n\n":            false,
		"\n\ufeffid: 1\n\n":          true,
		"foo: bar\n\ndata: a\n\n":    false,
	} {
		events, err := splitStream(stream, 0, 1<<20)
		if err != nil || len(events) == 0 {
			t.Fatal(events, err)
		}
		if got := events[len(events)-1].foreign; got != want {
			t.Errorf("%q: %v", stream, got)
		}
	}
}

// A comment goes on when its line ends: it must not wait for an event.
func TestSplitterCommentsAtOnce(t *testing.T) {
	var out bytes.Buffer
	s := Splitter{Limit: 100, Emit: func(e *Event) error { out.Write(e.Raw); return nil }}
	steps := []struct{ piece, want string }{
		{": keep", ""},
		{"-alive\n", ": keep-alive\n"},
		{":\r", ": keep-alive\n:\r"},
		{"\n", ": keep-alive\n:\r\n"},
		{"data: a\n: in\n", ": keep-alive\n:\r\n"},
		{"\n", ": keep-alive\n:\r\ndata: a\n: in\n\n"},
	}
	for _, step := range steps {
		if err := s.Write([]byte(step.piece)); err != nil || out.String() != step.want {
			t.Fatalf("after %q: %q, %v", step.piece, out.String(), err)
		}
	}
}

func TestSplitterLimit(t *testing.T) {
	event := "data: 3456789\n\n"
	cases := map[string]struct {
		stream string
		emits  int
		err    error
	}{
		"at the limit":               {event + event, 2, nil},
		"one byte more":              {event + "data: 34567890\n\n", 1, ErrEventTooLarge},
		"a line that never ends":     {"data: " + strings.Repeat("x", 1000), 0, ErrEventTooLarge},
		"an event that never ends":   {strings.Repeat("data\n", 1000), 0, ErrEventTooLarge},
		"a comment that never ends":  {event + ":" + strings.Repeat("x", 1000), 1, ErrEventTooLarge},
		"many comments are no event": {strings.Repeat(": 345678\n", 100), 100, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{0, 1, 5} {
				events, err := splitStream(c.stream, size, len(event))
				if !errors.Is(err, c.err) || len(events) != c.emits {
					t.Errorf("in pieces of %d: %d events, %v", size, len(events), err)
				}
			}
		})
	}
}

// What the receiver of events says ends the stream.
func TestSplitterPassesErrorsOn(t *testing.T) {
	for _, stream := range []string{"data: a\n\n", ": x\n", "data: a\r\n\r\n"} {
		calls := 0
		s := Splitter{Limit: 100, Emit: func(*Event) error { calls++; return ErrSyntax }}
		if err := s.Write([]byte(stream)); !errors.Is(err, ErrSyntax) || calls != 1 {
			t.Errorf("%q: %v after %d", stream, err, calls)
		}
	}
}

func TestSplitterForgetsLargeEvents(t *testing.T) {
	s := Splitter{Limit: 1 << 20, Emit: func(*Event) error { return nil }}
	if err := s.Write([]byte("data: " + strings.Repeat("x", 1<<19) + "\n\ndata: a\n\n")); err != nil {
		t.Fatal(err)
	}
	if cap(s.pending) > 2*maxKeptEvent {
		t.Errorf("keeps %d bytes", cap(s.pending))
	}
	for fields := range 3 * maxKeptFields {
		if err := s.Write([]byte(strings.Repeat("id: a\n", fields) + "data: a\n\n")); err != nil {
			t.Fatal(err)
		}
		kept := s.event.rest[:cap(s.event.rest)]
		if len(kept) > maxKeptFields || slices.ContainsFunc(kept, func(line []byte) bool { return line != nil }) || s.event.Data != nil || s.event.Raw != nil {
			t.Errorf("%d fields: keeps %q of %+v", fields, kept, s.event)
		}
	}
}

func FuzzSplitter(f *testing.F) {
	for _, stream := range []string{
		"data: a\n\n", "\ufeffdata: a\r\rdata: b\r\n\r\n", "id: 1\nretry: 5\ndata:\n\n: x\n\ndata: a\ndata: b\nevent: e\n\n",
		"\ufeff\ufeffdata\n\n\ufeffdata: c\n\n", "data: a\r\n: c\r\n\r\n\r\r\n\n", "{\"a\":\n: 1}\n\n",
		"data: x\n\ndata: a\r\rdata: b\n\n", "data: x\n\n\ndata: a\n\n", "data: x\n\ndata: " + strings.Repeat("a", 70) + "\n\n",
		"data: \u2028x\x00\n\ndata",
	} {
		for _, size := range []int{1, 3, 100} {
			f.Add(stream, size, 64)
		}
	}
	f.Fuzz(func(t *testing.T, stream string, size, limit int) {
		size, limit = max(size, 1), max(limit, 1)
		events, err := splitStream(stream, size, limit)
		whole, wholeErr := splitStream(stream, 0, limit)
		byOne, byOneErr := splitStream(stream, byEvent, limit)
		if !slices.Equal(events, whole) || !errors.Is(err, wholeErr) || !slices.Equal(events, byOne) || !errors.Is(err, byOneErr) {
			t.Fatalf("pieces of %d: %+v, %v\nat once: %+v, %v\nby event: %+v, %v", size, events, err, whole, wholeErr, byOne, byOneErr)
		}
		raw := 0
		for _, e := range events {
			if !strings.HasPrefix(stream[raw:], e.raw) {
				t.Fatalf("%q is not what stands at %d", e.raw, raw)
			}
			raw += len(e.raw)
			// whoever reads the rewritten event reads one, with this payload
			if e.hasData {
				if got := clientData(e.replaced); !slices.Equal(got, []string{"NEW"}) {
					t.Fatalf("%q became %q: a client reads %q", e.raw, e.replaced, got)
				}
			}
			if got := clientData(e.dropped + "data: b\n\n"); !slices.Equal(got, []string{"b"}) {
				t.Fatalf("%q became %q: a client reads %q", e.raw, e.dropped, got)
			}
		}
		if got, want := dataOf(events), clientData(stream[:raw]); !slices.Equal(got, want) {
			t.Fatalf("got %q, a client reads %q", got, want)
		}
		if err == nil {
			if got, want := dataOf(events), clientData(stream); !slices.Equal(got, want) {
				t.Fatalf("got %q, a client reads %q of the whole stream", got, want)
			}
		}
	})
}

func BenchmarkSplitter(b *testing.B) {
	progress := `event: message` + "\n" + `id: 5_1` + "\n" + `data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":0.5}}` + "\n\n"
	for name, stream := range map[string]string{
		"small events":  strings.Repeat(progress, 100),
		"one large":     "data: " + strings.Repeat("x", 1<<20) + "\n\n",
		"keep-alives":   strings.Repeat(": ping\n\n", 100),
		"many in lines": strings.Repeat("data: {}\n", 1000) + "\n",
	} {
		for _, size := range []int{len(stream), 32} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				s := Splitter{Limit: 16 << 20, Emit: func(*Event) error { return nil }}
				b.SetBytes(int64(len(stream)))
				b.ReportAllocs()
				for b.Loop() {
					for piece := range slices.Chunk([]byte(stream), size) {
						if err := s.Write(piece); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}

// TestEventType: the last event field counts, wherever it stands.
func TestEventType(t *testing.T) {
	for lines, want := range map[string]string{
		"data: x\n\n":                                  "",
		"event: endpoint\ndata: x\n\n":                 "endpoint",
		"event:endpoint\r\ndata: x\r\n\r\n":            "endpoint",
		"data: x\nid: 1\nevent: endpoint\n\n":          "endpoint",
		"event: endpoint\nevent: message\ndata: x\n\n": "message",
		"event: message\nevent: endpoint\ndata: x\n\n": "endpoint",
		"event: endpoint\nevent\ndata: x\n\n":          "",
		"event:  endpoint \ndata: x\n\n":               "endpoint",
		"Event: endpoint\ndata: x\n\n":                 "",
		": event: endpoint\nevents: y\ndata: x\n\n":    "",
		"\ufeffevent: endpoint\ndata: x\n\n":           "endpoint",
		"data: event: endpoint\ndata: event: y\n\n":    "",
		"event: endpoint: x\ndata: x\n\n":              "endpoint: x",
	} {
		var got []string
		s := Splitter{Limit: 1000, Emit: func(e *Event) error {
			if e.Data != nil {
				got = append(got, e.Type())
			}
			return nil
		}}
		if err := s.Write([]byte(lines)); err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%q: %q, %v, want %q", lines, got, err, want)
		}
	}
}

// TestSplitterPass: what a reader of endpoints makes of a stream is the same whether or not it passes pieces unread.
func TestSplitterPass(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	words := []string{
		"\n", "\n", "\n\n", "\r", "\r\n", "\r\n\r\n", "event: endpoint\n", "event:message\n", "event: end", "point\n", "data: a\n\n",
		"data: endpoint\n\n", "data: b\r\n\n", ": endpoint\n", ": ping\n\n", "\ufeff", "data", ":", " ", "id: 1\n",
	}
	read := func(pieces []string, passes bool) (out string, passed int) {
		s := Splitter{Limit: 1 << 20, Emit: func(e *Event) error {
			if e.Type() == "endpoint" {
				out += "<" + string(e.Data) + ">"
			} else {
				out += string(e.Raw)
			}
			return nil
		}}
		for _, piece := range pieces {
			if passes && s.Pass([]byte(piece), "endpoint") {
				out += piece
				passed++
			} else if err := s.Write([]byte(piece)); err != nil {
				t.Fatal(err)
			}
		}
		return out, passed
	}
	sum := 0
	for range 20_000 {
		var pieces []string
		for range 1 + random.IntN(8) {
			piece := ""
			for range 1 + random.IntN(5) {
				piece += words[random.IntN(len(words))]
			}
			pieces = append(pieces, piece)
		}
		want, _ := read(pieces, false)
		got, passed := read(pieces, true)
		if got != want {
			t.Fatalf("%q: %q, want %q", pieces, got, want)
		}
		sum += passed
	}
	if sum < 1000 {
		t.Errorf("only %d pieces have passed unread", sum)
	}
}

func TestLineEnd(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	for range 2000 {
		text := bytes.Repeat([]byte{'x'}, random.IntN(3*lineWindow))
		for range random.IntN(4) {
			if len(text) > 0 {
				text[random.IntN(len(text))] = "\r\n"[random.IntN(2)]
			}
		}
		if got, want := lineEnd(text), bytes.IndexAny(text, "\r\n"); got != want {
			t.Fatalf("%q: %d, want %d", text, got, want)
		}
	}
}

// TestSplitterManyLines: what an event costs grows with its size, whichever way its lines end. (A server could make a
// gateway work for minutes on one event.)
func TestSplitterManyLines(t *testing.T) {
	for _, line := range []string{"a\r", "a\n", "a\r\n", ": a\r"} {
		event := strings.Repeat(line, 2<<20/len(line)) + line[1:]
		began := time.Now()
		s := Splitter{Limit: 4 << 20, Emit: func(*Event) error { return nil }}
		if err := s.Write([]byte(event)); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("lines of %q: %v", line, took)
		}
	}
}

// TestSplitterFields: lines that are not data are bounded by their number, those of data by their size alone.
func TestSplitterFields(t *testing.T) {
	for stream, want := range map[string]error{
		strings.Repeat("id: 1\n", maxEventFields) + "data: a\n\n":        nil,
		strings.Repeat("id: 1\n", maxEventFields+1) + "data: a\n\n":      ErrEventTooLarge,
		"data: a\n" + strings.Repeat(":\r", maxEventFields+1) + "\r":     ErrEventTooLarge,
		strings.Repeat("data: a\n", 10*maxEventFields) + "\n":            nil,
		strings.Repeat(strings.Repeat("id\n", maxEventFields)+"\n", 3):   nil,
		strings.Repeat(": a comment between events\n", 2*maxEventFields): nil,
	} {
		if _, err := splitStream(stream, 0, 1<<20); !errors.Is(err, want) {
			t.Errorf("%.20q: %v, want %v", stream, err, want)
		}
	}
}
