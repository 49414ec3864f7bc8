package mcpwire

import (
	"errors"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrUnexpectedList means that an answer which holds no list by its method
// holds one.
var ErrUnexpectedList = errors.New("a list where none belongs")

// maxGuardedName bounds the member names the guard keeps. Those it looks for
// are shorter, six bytes for each character if all were escaped.
const maxGuardedName = 6 * len("resourceTemplates")

// Guard watches a JSON object pass by and stops it at a list that should
// have been filtered: result.tools and its like. It keeps nothing but a few
// bytes, so answers that hold no list need not be collected to be sure of
// it. It is lenient where a parser would be: it only ever stops more.
type Guard struct {
	depth    int
	inString bool
	escaped  bool
	started  bool
	isName   bool   // the next string at this depth is a member name
	name     []byte // the name that is being read, or was read last
	tooLong  bool
	inResult bool // inside the object that is the value of "result"
}

// Write looks at the next piece.
func (g *Guard) Write(piece []byte) error {
	for i := 0; i < len(piece); i++ {
		if g.inString && !g.escaped && (!g.isName || g.depth > 2) {
			// nothing in here but its end matters
			if i = g.skipString(piece, i); i == len(piece) {
				return nil
			}
		}
		if err := g.next(piece[i]); err != nil {
			return err
		}
	}
	return nil
}

// skipString returns where the string that goes on at from has its closing
// quote, or the end of the piece.
func (g *Guard) skipString(piece []byte, from int) int {
	end := stringEnd(piece, from-1)
	if end < len(piece) {
		return end
	}
	escapes := end
	for escapes > from && piece[escapes-1] == '\\' {
		escapes--
	}
	g.escaped = (end-escapes)%2 == 1
	return end
}

func (g *Guard) next(c byte) error {
	if g.inString {
		g.inStringByte(c)
		return nil
	}
	if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
		return nil
	}
	if g.started && g.depth == 0 {
		return ErrTrailing // somebody may read on, as another value
	}
	switch c {
	case '"':
		g.inString = true
		if g.isName && g.depth <= 2 {
			g.name, g.tooLong = g.name[:0], false
		}
	case '{', '[':
		return g.open(c)
	case '}', ']':
		g.depth--
		g.isName = false
		if g.depth < 2 {
			g.inResult = false
		}
	case ',':
		g.isName = true
	default:
		if !inJSON(c) {
			// comments and other quotes could hide where a string ends
			return ErrSyntax
		}
	}
	if !g.started {
		// not an object, so nothing a client takes for a message
		return ErrUnexpectedList
	}
	return nil
}

// inJSON reports whether a byte can stand outside of strings: in a number or
// a literal, or between a name and its value.
func inJSON(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '+' || c == '-' || c == '.' || c == ':'
}

// open enters an object or array, which is the value of g.name.
func (g *Guard) open(c byte) error {
	switch {
	case !g.started && c == '[':
		return ErrUnexpectedList
	case g.depth == 1 && g.nameIs("result"):
		g.inResult = c == '{'
	case g.depth == 2 && g.inResult && c == '[':
		for list := range listPlaces {
			if g.nameIs(list) {
				return ErrUnexpectedList
			}
		}
	}
	g.started = true
	g.depth++
	g.isName = c == '{'
	return nil
}

func (g *Guard) inStringByte(c byte) {
	if g.isName && g.depth <= 2 && (c != '"' || g.escaped) {
		if len(g.name) < maxGuardedName {
			g.name = append(g.name, c)
		} else {
			g.tooLong = true
		}
	}
	switch {
	case g.escaped:
		g.escaped = false
	case c == '\\':
		g.escaped = true
	case c == '"':
		g.inString, g.isName = false, false
	}
}

// nameIs compares without case and after unescaping, as lenient parsers do,
// and as far as a NUL, where those written in C would see the end.
func (g *Guard) nameIs(name string) bool {
	if !g.tooLong && isPlain(g.name) {
		return len(g.name) == len(name) && strings.EqualFold(string(g.name), name)
	}
	raw, _, ended := strings.Cut(string(g.name), `\u0000`)
	if g.tooLong && !ended {
		return false
	}
	text, err := jsontext.AppendUnquote(nil, `"`+raw+`"`)
	if err != nil {
		return true // nobody can say what it is
	}
	return strings.EqualFold(string(text), name)
}

// isPlain reports whether a text is ASCII and means what it says.
func isPlain(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	return true
}
