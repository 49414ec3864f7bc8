package mcpwire

import (
	"bytes"
	"errors"
)

// ErrEventTooLarge means that an event is larger than its bounds.
var ErrEventTooLarge = errors.New("server-sent event too large")

// Event is one server-sent event (HTML standard, section 9.2.6).
type Event struct {
	// Raw are all bytes of the event, its blank line included.
	Raw []byte
	// Data is the payload, its data lines joined by line feeds; nil for an
	// event without any.
	Data []byte
	// Foreign: there is a line that is no field of an event. Clients ignore
	// it, but somebody who reads the bytes would not; WithData drops it.
	Foreign bool
	// rest are the lines that are not data, without their ends, and dataAt
	// is how many of them stand before the first data line.
	rest   [][]byte
	dataAt int
}

// Type is what the event's event field says, "" for an event without. Of
// several, the last one counts. White space around it is left out: there are
// clients that do so.
func (e *Event) Type() string {
	var name []byte
	for _, line := range e.rest {
		if field, value, _ := bytes.Cut(line, []byte{':'}); string(field) == "event" {
			name = bytes.TrimSpace(value)
		}
	}
	return string(name)
}

// WithData is the event with another payload, in which there must be no CR;
// every other field stays. A nil payload leaves an event that is dispatched
// to nobody but still moves the client's last event id on.
func (e *Event) WithData(data []byte) []byte {
	out := make([]byte, 0, len(e.Raw)+len(data))
	for i, line := range e.rest {
		if i == e.dataAt {
			out = appendData(out, data)
		}
		// a CR of its own would make one line end of this and the next LF
		out = append(append(out, line...), '\n')
	}
	if e.dataAt >= len(e.rest) {
		out = appendData(out, data)
	}
	return append(out, '\n')
}

func appendData(out, data []byte) []byte {
	if data == nil {
		return out
	}
	for line := range bytes.SplitSeq(data, []byte{'\n'}) {
		out = append(append(append(out, "data: "...), line...), '\n')
	}
	return out
}

// Splitter splits a stream into events as it arrives, in pieces of any size,
// with CR, LF or CRLF at the end of lines. Comments outside of an event pass
// at once: they keep a connection alive.
type Splitter struct {
	// Limit bounds one event, in bytes.
	Limit int
	// Emit is called for each event, and for bytes between events with an
	// event that has only Raw. What it gets is valid until it returns.
	Emit func(*Event) error

	pending   []byte // bytes of the event so far
	lineStart int    // where in pending the unfinished line starts
	fields    bool   // pending has a line that is not a comment
	afterCR   bool   // the last byte was a CR: a LF belongs to it
	event     Event  // the one that is emitted
	started   bool   // the first line is over: no BOM any more
	emitted   bool   // and so is the first event
}

// Write takes the next piece of the stream.
func (s *Splitter) Write(piece []byte) error {
	if s.isEvent(piece) {
		return s.emit(piece, piece)
	}
	for len(piece) > 0 {
		if s.afterCR {
			s.afterCR = false
			if piece[0] == '\n' {
				if err := s.endCRLF(); err != nil {
					return err
				}
				piece = piece[1:]
				continue
			}
		}
		end := lineEnd(piece)
		if end < 0 {
			return s.append(piece)
		}
		if err := s.append(piece[:end+1]); err != nil {
			return err
		}
		s.afterCR = piece[end] == '\r'
		piece = piece[end+1:]
		if err := s.endLine(); err != nil {
			return err
		}
	}
	return nil
}

// lineEnd is where the first CR or LF stands, -1 without any. It looks at a
// window at a time: looking for a LF in all of a text whose lines end with CR
// would take a look at the rest of it for each of them.
func lineEnd(text []byte) int {
	for from := 0; from < len(text); from += lineWindow {
		window := text[from:min(from+lineWindow, len(text))]
		end := bytes.IndexByte(window, '\n')
		if end >= 0 {
			window = window[:end]
		}
		if cr := bytes.IndexByte(window, '\r'); cr >= 0 {
			end = cr
		}
		if end >= 0 {
			return from + end
		}
	}
	return -1
}

// lineWindow is how far lineEnd looks at once, in bytes.
const lineWindow = 512

// Pass reports whether a piece of the stream consists of whole events, none
// of which holds the word, so that nothing of it has to be looked at. The
// splitter takes it for written then.
func (s *Splitter) Pass(piece []byte, word string) bool {
	return s.emitted && len(s.pending) == 0 && !s.afterCR &&
		bytes.HasSuffix(piece, []byte("\n\n")) && !bytes.Contains(piece, []byte(word))
}

// isEvent reports whether a piece of the stream is one whole event, as nearly
// every piece is that a server sends. It need not be put together then. Only
// the plainest form is seen: its lines end with LF, and the first one is a
// field.
func (s *Splitter) isEvent(piece []byte) bool {
	return s.emitted && len(s.pending) == 0 && !s.afterCR && len(piece) > 2 && len(piece) <= s.Limit &&
		piece[0] != ':' && piece[0] != '\n' && bytes.IndexByte(piece, '\r') < 0 &&
		bytes.Index(piece, []byte("\n\n")) == len(piece)-2
}

// Close takes the end of the stream. What is left is no event: clients drop
// it, and so does the gateway.
func (s *Splitter) Close() {
	s.pending, s.lineStart = nil, 0
}

func (s *Splitter) append(piece []byte) error {
	if len(s.pending)+len(piece) > s.Limit {
		return ErrEventTooLarge
	}
	s.pending = append(s.pending, piece...)
	return nil
}

// endCRLF adds the LF of a CRLF whose CR has ended a line already.
func (s *Splitter) endCRLF() error {
	if len(s.pending) == 0 {
		// the event has gone with its CR
		return s.Emit(&Event{Raw: []byte{'\n'}})
	}
	s.pending = append(s.pending, '\n')
	s.lineStart = len(s.pending)
	return nil
}

// endLine looks at the line that pending ends with.
func (s *Splitter) endLine() error {
	line := s.pending[s.lineStart : len(s.pending)-1]
	if !s.started {
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
		s.started = true
	}
	s.lineStart = len(s.pending)
	switch {
	case len(line) == 0:
		return s.flush()
	case line[0] == ':':
		if !s.fields {
			return s.flush()
		}
	default:
		s.fields = true
	}
	return nil
}

// flush emits what is pending.
func (s *Splitter) flush() error {
	lines := s.pending
	if !s.emitted {
		lines = bytes.TrimPrefix(lines, []byte("\ufeff"))
	}
	s.fields = false
	s.lineStart = 0
	err := s.emit(s.pending, lines)
	if cap(s.pending) > maxKeptEvent {
		s.pending = nil // one large event must not cost memory for hours
	}
	s.pending = s.pending[:0]
	return err
}

// emit emits the event that lines are.
func (s *Splitter) emit(raw, lines []byte) error {
	defer s.event.forget()
	if err := s.event.parse(lines); err != nil {
		return err
	}
	s.event.Raw = raw
	s.emitted = true
	return s.Emit(&s.event)
}

const (
	// maxKeptEvent bounds the buffer that an idle stream keeps.
	maxKeptEvent = 16 << 10
	// maxEventFields bounds the lines of an event that are not its data. Each
	// takes more memory than its bytes; an event has three of them.
	maxEventFields = 1000
	// maxKeptFields bounds the room for them that an idle stream keeps.
	maxKeptFields = 8
)

// forget leaves room for another event, and nothing of this one.
func (e *Event) forget() {
	clear(e.rest)
	if *e = (Event{rest: e.rest[:0]}); cap(e.rest) > maxKeptFields {
		e.rest = nil
	}
}

// parse takes the lines of an event apart. Its parts alias them.
func (e *Event) parse(lines []byte) error {
	for rest := lines; len(rest) > 0; {
		line, end := rest, len(rest)
		if at := lineEnd(rest); at >= 0 {
			line, end = rest[:at], at+1
			if rest[at] == '\r' && end < len(rest) && rest[end] == '\n' {
				end++
			}
		}
		rest = rest[end:]
		if len(line) == 0 {
			continue
		}
		if payload, ok := dataLine(line); ok {
			if e.Data == nil {
				e.Data = payload[:len(payload):len(payload)] // what is appended is a copy
				e.dataAt = len(e.rest)
			} else {
				e.Data = append(append(e.Data, '\n'), payload...)
			}
			continue
		}
		if !isField(line) {
			e.Foreign = true
			continue
		}
		if len(e.rest) == maxEventFields {
			return ErrEventTooLarge
		}
		e.rest = append(e.rest, line)
	}
	return nil
}

// dataLine returns the payload of a data field.
func dataLine(line []byte) (payload []byte, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte("data"))
	switch {
	case !ok:
		return nil, false
	case len(rest) == 0:
		return rest, true
	case rest[0] != ':':
		return nil, false
	}
	return bytes.TrimPrefix(rest[1:], []byte{' '}), true
}

// isField reports whether a line is a comment or a field other than data.
func isField(line []byte) bool {
	name, _, _ := bytes.Cut(line, []byte{':'})
	switch string(name) {
	case "", "event", "id", "retry":
		return true
	default:
		return false
	}
}
