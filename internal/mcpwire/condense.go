package mcpwire

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"unicode/utf8"
)

const (
	// condenseFrom is the size from which a document is condensed. Below, it
	// would save less than it costs.
	condenseFrom = 4 << 10
	// longText is the length from which a text is left out.
	longText = 256
	// maxShortTexts is how many shorter ones in a row end the search for long
	// texts, which costs more than it brings where there are few.
	maxShortTexts = 64
	// maxKeptCondensed and maxKeptCuts bound what a reader keeps for the next
	// document, in bytes and in cuts.
	maxKeptCondensed = 64 << 10
	maxKeptCuts      = 1 << 10
)

// condensed is a document without the content of its long texts: jsontext
// looks at every byte of a text, and that is most of the work for the calls
// that carry files. What is left out has been found to be the content of a
// valid JSON text (RFC 8259 section 7), which has no part in the structure,
// so jsontext accepts the one document if and only if it accepts the other.
// It judges everything else: structure, member names, numbers, and each text
// in which something is not plain to see.
type condensed struct {
	doc  []byte
	cuts []cut
}

// cut says where the content of a text was, in the condensed document, and
// how many bytes have been left out up to there.
type cut struct{ at, removed int }

// condense returns the document that stands for doc: doc itself, if not at
// least half of it can be left out.
func (c *condensed) condense(doc []byte) []byte {
	c.reset()
	if len(doc) < condenseFrom {
		return doc
	}
	removed, short := 0, 0
	for i := nextQuote(doc, 0); i < len(doc) && short < maxShortTexts; {
		start := i + 1
		end := textEnd(doc, start)
		if end < 0 {
			break // for jsontext to say what is wrong with it
		}
		if short++; end-start >= longText && !isMemberName(doc, end) {
			short = 0
			removed += end - start
			// until the document is written, cuts are places in doc
			c.cuts = append(c.cuts, cut{at: end, removed: removed})
		}
		i = nextQuote(doc, end+1)
	}
	if removed < len(doc)/2 {
		c.cuts = c.cuts[:0]
		return doc
	}
	c.doc = slices.Grow(c.doc, len(doc)-removed)
	from, before := 0, 0
	for i := range c.cuts {
		next := &c.cuts[i]
		length := next.removed - before
		c.doc = append(c.doc, doc[from:next.at-length]...)
		from, before = next.at, next.removed
		next.at = len(c.doc)
	}
	c.doc = append(c.doc, doc[from:]...)
	return c.doc
}

// original is where something is in the document itself whose place in the
// condensed one is offset, which is where a token begins or ends.
func (c *condensed) original(offset int) int {
	after, _ := slices.BinarySearchFunc(c.cuts, offset, func(cut cut, offset int) int { return cut.at - offset })
	if after == 0 {
		return offset
	}
	return offset + c.cuts[after-1].removed
}

// reset forgets the document, and the memory that is more than most need.
func (c *condensed) reset() {
	clear(c.doc)
	c.doc, c.cuts = c.doc[:0], c.cuts[:0]
	if cap(c.doc) > maxKeptCondensed {
		c.doc = nil
	}
	if cap(c.cuts) > maxKeptCuts {
		c.cuts = nil
	}
}

// isMemberName reports whether the text with the closing quote at end is the
// name of a member. Names stay, since jsontext compares them.
func isMemberName(doc []byte, end int) bool {
	next := afterBlanks(doc, end+1)
	return next < len(doc) && doc[next] == ':'
}

// textEnd returns where the text whose content begins at i has its closing
// quote, or -1 if it is not certain that the content is valid. It looks at
// eight bytes at a time.
func textEnd(doc []byte, i int) int {
	for i < len(doc) {
		for len(doc)-i >= 8 {
			special := specialBytes(binary.LittleEndian.Uint64(doc[i:]))
			if special != 0 {
				i += bits.TrailingZeros64(special) / 8
				break
			}
			i += 8
		}
		if i == len(doc) {
			break
		}
		switch b := doc[i]; {
		case b == '\\':
			switch {
			case i+1 < len(doc) && isShortEscape[doc[i+1]]:
				i += 2
			case isUnit(doc[i:]) && !isHalf(doc[i:]):
				i += 6
			case isPair(doc[i:]):
				i += 12
			default:
				return -1
			}
		case b == '"':
			return i
		case b < ' ':
			return -1
		case b < utf8.RuneSelf:
			i++
		default:
			end := asciiFrom(doc, i)
			if !utf8.Valid(doc[i:end]) {
				return -1
			}
			i = end
		}
	}
	return -1
}

// asciiFrom returns where the next ASCII character is, or the end of doc.
func asciiFrom(doc []byte, i int) int {
	for i < len(doc) && doc[i] >= utf8.RuneSelf {
		i++
	}
	return i
}

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// specialBytes marks the bytes, by their highest bit, that are not plain
// characters of a text: quotes, backslashes, control characters, and what is
// not ASCII. A borrow may mark bytes above one that is marked, never below.
func specialBytes(eight uint64) uint64 {
	// with '"' and ' ' in each other's place, '"' and the control characters
	// are what is below '!'
	low := (eight ^ 0x02*lowBits) - '!'*lowBits
	backslash := (eight ^ '\\'*lowBits) - lowBits
	return (eight | low | backslash) & highBits
}

// isShortEscape has the characters that follow a backslash on their own.
var isShortEscape = [256]bool{'"': true, '\\': true, '/': true, 'b': true, 'f': true, 'n': true, 'r': true, 't': true}

// isUnit reports whether text begins with a UTF-16 code unit as an escape
// sequence of six characters.
func isUnit(text []byte) bool {
	return len(text) >= 6 && text[0] == '\\' && text[1] == 'u' && isHex(text[2]) && isHex(text[3]) && isHex(text[4]) && isHex(text[5])
}

// isHalf reports whether a unit is one half of a character outside the BMP.
func isHalf(unit []byte) bool { return unit[2]|0x20 == 'd' && unit[3] >= '8' }

// isPair reports whether text begins with both halves of such a character.
func isPair(text []byte) bool {
	return isUnit(text) && isUnit(text[6:]) && isHalf(text) && isHalf(text[6:]) && !isSecondHalf(text) && isSecondHalf(text[6:])
}

func isSecondHalf(half []byte) bool { return half[3]|0x20 >= 'c' }

func isHex(b byte) bool {
	return b-'0' <= 9 || b|0x20-'a' <= 5
}
