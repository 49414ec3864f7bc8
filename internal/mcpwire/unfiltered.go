package mcpwire

import "strings"

// tellingWord is a word without which no reader of a message, however lenient,
// finds in it what a Filter takes out: a list, or a notification about a
// target. anchor is a letter of it that is rare, one of u and k, and at is where
// it stands.
type tellingWord struct {
	word   string
	anchor byte
	at     int
}

var tellingWords = [...]tellingWord{
	{"result", 'u', 3}, {"resources", 'u', 4}, {"tasks", 'k', 3}, {"acknowledged", 'k', 2},
}

// IsUnfiltered reports whether a message, or an array of them, certainly holds
// nothing that a Filter looks for, so that it passes whatever else is in it:
// it is printable ASCII without escapes, and has no telling word in it, in
// upper or lower case. That holds for most of what a server tells on a stream.
func IsUnfiltered(doc []byte) bool {
	for i, c := range doc {
		if c < ' ' || c > '~' || c == '\\' {
			return false
		}
		letter := c | 0x20 // in lower case
		if letter != 'u' && letter != 'k' {
			continue
		}
		for j := range tellingWords {
			w := &tellingWords[j]
			start, end := i-w.at, i-w.at+len(w.word)
			if letter == w.anchor && start >= 0 && end <= len(doc) && strings.EqualFold(string(doc[start:end]), w.word) {
				return false
			}
		}
	}
	return true
}
