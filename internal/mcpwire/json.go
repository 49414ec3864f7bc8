package mcpwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxDepth is how deep objects and arrays of one JSON document may nest.
// MCP messages and JSON schemas stay far below it; it bounds the stack and
// the memory of everything that walks a document later.
const MaxDepth = 128

// maxIntegerDigits bounds the integers that are compared with their float
// form. The largest float64 has 309 digits, so a longer integer is never
// exact, and comparing it would only cost time.
const maxIntegerDigits = 309

// Errors of the strict JSON reading. Each one refuses the whole document.
var (
	ErrSyntax    = errors.New("not valid JSON")
	ErrTooDeep   = fmt.Errorf("nested deeper than %d levels", MaxDepth)
	ErrDuplicate = errors.New("duplicate member name")
	ErrTrailing  = errors.New("data after the JSON value")
)

// InexactNumber is a JSON number that neither int64 nor float64 holds.
// Whoever needs its value has to treat it as an error.
type InexactNumber string

// CheckDepth refuses documents that nest deeper than MaxDepth. It looks at
// brackets outside strings only, so it runs before any parser and costs one
// pass over the bytes and no memory.
func CheckDepth(doc []byte) error {
	// counting is many times faster than looking, and enough for long texts
	if bytes.Count(doc, []byte{'{'})+bytes.Count(doc, []byte{'['}) <= MaxDepth {
		return nil
	}
	depth := 0
	for i := 0; i < len(doc); i++ {
		switch doc[i] {
		case '"':
			i = stringEnd(doc, i)
		case '{', '[':
			if depth++; depth > MaxDepth {
				return ErrTooDeep
			}
		case '}', ']':
			depth--
		}
	}
	return nil
}

// nextQuote returns where the next quote is, or the end of doc.
func nextQuote(doc []byte, from int) int {
	if next := bytes.IndexByte(doc[from:], '"'); next >= 0 {
		return from + next
	}
	return len(doc)
}

// stringEnd returns where the string that begins at start has its closing
// quote, or the end of doc.
func stringEnd(doc []byte, start int) int {
	for i := start + 1; ; i++ {
		if i = nextQuote(doc, i); i == len(doc) {
			return i
		}
		escape := i
		for escape > start+1 && doc[escape-1] == '\\' {
			escape--
		}
		if (i-escape)%2 == 0 {
			return i
		}
	}
}

// Object reads doc as exactly one JSON object and calls member for each of
// its members in order, with the unquoted name and the raw value, which is
// valid JSON throughout. The value aliases doc.
func Object(doc []byte, member func(name string, value jsontext.Value) error) error {
	r := acquireReader()
	defer r.release()
	return r.Read(doc, member)
}

// ObjectReader reads objects, one after the other, with one decoder. Its
// zero value is ready; it must not be used concurrently.
type ObjectReader struct {
	dec *jsontext.Decoder
	doc bytes.Buffer

	// whole is the document, if dec reads it without its long texts.
	whole     []byte
	condensed condensed
}

// objectReaders keeps readers for the next message: a decoder is larger than
// most messages. They hold no document while they are in here.
var objectReaders = sync.Pool{New: func() any { return new(ObjectReader) }}

func acquireReader() *ObjectReader {
	return objectReaders.Get().(*ObjectReader) //nolint:forcetypeassert // the pool makes nothing else
}

func (r *ObjectReader) release() {
	r.reset(nil)
	r.condensed.reset()
	objectReaders.Put(r)
}

// Read is Object with the decoder of r.
func (r *ObjectReader) Read(doc []byte, member func(name string, value jsontext.Value) error) error {
	if err := CheckDepth(doc); err != nil {
		return err
	}
	return r.read(doc, member)
}

// read is Read for a value of a document whose depth has been checked.
func (r *ObjectReader) read(doc []byte, member func(name string, value jsontext.Value) error) error {
	r.reset(doc)
	err := r.members(func(name string) error {
		value, err := r.value()
		if err != nil {
			return err
		}
		return member(name, value)
	})
	if err != nil {
		return err
	}
	return r.end()
}

func (r *ObjectReader) reset(doc []byte) {
	r.whole = nil
	// jsontext reads a bytes.Buffer in place instead of copying it
	r.doc = *bytes.NewBuffer(doc)
	if r.dec == nil {
		r.dec = jsontext.NewDecoder(&r.doc)
		return
	}
	r.dec.Reset(&r.doc)
}

// begin is reset for a document that comes first: it may be large, and its
// depth has not been checked.
func (r *ObjectReader) begin(doc []byte) error {
	short := r.condensed.condense(doc)
	if err := CheckDepth(short); err != nil {
		return err
	}
	r.reset(short)
	if len(short) != len(doc) {
		r.whole = doc
	}
	return nil
}

// members enters the object that comes next and calls member with the name
// of each of its members. It must read the value.
func (r *ObjectReader) members(member func(name string) error) error {
	return r.membersFrom(func(int) {}, member)
}

// membersFrom is members that first tells where the inside of the object
// begins in the document.
func (r *ObjectReader) membersFrom(inside func(start int), member func(name string) error) error {
	if r.dec.PeekKind() != '{' {
		if _, err := r.dec.ReadToken(); err != nil {
			return r.classify(err)
		}
		return fmt.Errorf("%w: not an object", ErrSyntax)
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return r.classify(err)
	}
	inside(r.original(int(r.dec.InputOffset())))
	for r.dec.PeekKind() == '"' {
		name, err := r.name()
		if err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return r.classify(err)
	}
	return nil
}

func (r *ObjectReader) name() (string, error) {
	quoted, err := r.value()
	if err != nil {
		return "", err
	}
	name, _ := String(quoted)
	return name, nil
}

// value reads the value that comes next.
func (r *ObjectReader) value() (jsontext.Value, error) {
	value, err := r.dec.ReadValue()
	switch {
	case err != nil:
		return nil, r.classify(err)
	case r.whole != nil:
		end := int(r.dec.InputOffset())
		from, to := r.original(end-len(value)), r.original(end)
		return r.whole[from:to:to], nil
	}
	return value, nil
}

// end refuses anything but white space after the value.
func (r *ObjectReader) end() error {
	if _, err := r.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return ErrTrailing
	}
	return nil
}

// Member returns a member of an object that has been read before, as a part
// of a document.
func Member(object jsontext.Value, member string) (value jsontext.Value, ok bool) {
	if object.Kind() != '{' {
		return nil, false
	}
	_ = eachMember(object, func(name, found jsontext.Value) error {
		if !isText(name, member) {
			return nil
		}
		value, ok = found, true
		return errFound // there is no other member of this name
	})
	return value, ok
}

// isText reports whether a JSON string that has been read before says text.
func isText(value jsontext.Value, text string) bool {
	if plain := value[1 : len(value)-1]; bytes.IndexByte(plain, '\\') < 0 {
		return string(plain) == text
	}
	unquoted, _ := String(value)
	return unquoted == text
}

// errFound ends a search.
var errFound = errors.New("found")

// eachMember is Object for an object that has been read before, as a part of
// a document: its form is known to be right, and is not checked again. Names
// come as they are written.
func eachMember(object jsontext.Value, member func(name, value jsontext.Value) error) error {
	for i := afterBlanks(object, 1); i < len(object) && object[i] == '"'; {
		end := stringEnd(object, i) + 1
		name := object[i:end]
		from := afterBlanks(object, afterBlanks(object, end)+1) // the colon
		to := valueEnd(object, from)
		if err := member(name, object[from:to]); err != nil {
			return err
		}
		i = afterBlanks(object, to)
		if i < len(object) && object[i] == ',' {
			i = afterBlanks(object, i+1)
		}
	}
	return nil
}

func afterBlanks(doc []byte, i int) int {
	for i < len(doc) && (doc[i] == ' ' || doc[i] == '\t' || doc[i] == '\r' || doc[i] == '\n') {
		i++
	}
	return i
}

// valueEnd returns where a value of a valid document ends.
func valueEnd(doc []byte, from int) int {
	depth := 0
	for i := from; i < len(doc); i++ {
		switch doc[i] {
		case '"':
			if i = stringEnd(doc, i); depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
	return len(doc)
}

// classify turns the errors of jsontext into the few kinds callers tell
// apart, without echoing content of the document.
func (r *ObjectReader) classify(err error) error {
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return ErrDuplicate
	case errors.As(err, &syntactic):
		return fmt.Errorf("%w at byte %d", ErrSyntax, r.original(int(syntactic.ByteOffset)))
	default:
		return ErrSyntax
	}
}

// span returns where the value that was read last stands in the document.
func (r *ObjectReader) span(value jsontext.Value) (start, end int) {
	end = r.original(int(r.dec.InputOffset()))
	return end - len(value), end
}

// original is where a place of what dec reads is in the document.
func (r *ObjectReader) original(offset int) int {
	if r.whole == nil {
		return offset
	}
	return r.condensed.original(offset)
}

// String returns the text of a JSON string value, and false for any other
// kind of value.
func String(value jsontext.Value) (string, bool) {
	if value.Kind() != '"' {
		return "", false
	}
	if plain, ok := plainText(value); ok {
		if word, ok := knownWord(plain); ok {
			return word, true
		}
		return string(plain), true
	}
	text, err := jsontext.AppendUnquote(nil, []byte(value))
	if err != nil {
		return "", false
	}
	return string(text), true
}

// plainText is what is between the quotes of a string without escapes.
func plainText(value jsontext.Value) (text []byte, ok bool) {
	last := len(value) - 1
	if last < 1 || value[last] != '"' || bytes.IndexByte(value, '\\') >= 0 || !utf8.Valid(value) {
		return nil, false
	}
	return value[1:last], true
}

// Decode turns a value that Object has validated into Go values: nil, bool,
// string, int64, float64, InexactNumber, []any and map[string]any. Integers
// that fit 64 bits are int64, every other number float64.
func Decode(value jsontext.Value) (any, error) {
	value = bytes.Trim(value, " \t\r\n")
	switch value.Kind() { // most values need no decoder
	case '"':
		if text, ok := String(value); ok {
			return text, nil
		}
	case '0':
		return decodeNumber(string(value)), nil
	}
	switch string(value) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	case "null":
		return nil, nil
	}
	r := acquireReader()
	defer r.release()
	r.reset(value)
	v, err := decodeNext(r.dec)
	if err != nil {
		return nil, r.classify(err)
	}
	return v, nil
}

func decodeNext(dec *jsontext.Decoder) (any, error) {
	token, err := dec.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case 'n':
		return nil, nil
	case 't':
		return true, nil
	case 'f':
		return false, nil
	case '"':
		return token.String(), nil
	case '0':
		return decodeNumber(token.String()), nil
	case '[':
		list := []any{}
		for dec.PeekKind() != ']' {
			v, err := decodeNext(dec)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.ReadToken()
		return list, err
	default:
		object := map[string]any{}
		for dec.PeekKind() != '}' {
			name, err := dec.ReadToken()
			if err != nil {
				return nil, err
			}
			// the token is only valid until the next read
			key := name.String()
			v, err := decodeNext(dec)
			if err != nil {
				return nil, err
			}
			object[key] = v
		}
		_, err := dec.ReadToken()
		return object, err
	}
}

// decodeNumber returns int64, float64 or, where neither holds the number,
// InexactNumber: a rule must not compare something the server does not see.
func decodeNumber(text string) any {
	if !strings.ContainsAny(text, ".eE") {
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return i
		}
		if len(text) > maxIntegerDigits {
			return InexactNumber(text)
		}
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return InexactNumber(text)
		}
		exact, ok := new(big.Int).SetString(text, 10)
		if !ok {
			return InexactNumber(text)
		}
		if held, _ := big.NewFloat(f).Int(nil); held.Cmp(exact) != 0 {
			return InexactNumber(text)
		}
		return f
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return InexactNumber(text)
	}
	if mantissa, _, _ := strings.Cut(strings.ToLower(text), "e"); f == 0 && strings.ContainsAny(mantissa, "123456789") {
		return InexactNumber(text)
	}
	return f
}

// ErrTooMany means that an array has more elements than its bound.
var ErrTooMany = errors.New("too many elements")

// Elements reads list as exactly one JSON array and splits it into its
// elements, at most limit of them. The elements alias list, whose depth has
// been checked.
func Elements(list jsontext.Value, limit int) ([]jsontext.Value, error) {
	r := acquireReader()
	defer r.release()
	r.reset(list)
	dec := r.dec
	if token, err := dec.ReadToken(); err != nil || token.Kind() != '[' {
		return nil, fmt.Errorf("%w: not an array", ErrSyntax)
	}
	var elements []jsontext.Value
	for dec.PeekKind() != ']' {
		if len(elements) == limit {
			return nil, fmt.Errorf("%w: more than %d", ErrTooMany, limit)
		}
		element, err := dec.ReadValue()
		if err != nil {
			return nil, r.classify(err)
		}
		elements = append(elements, element)
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, r.classify(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, ErrTrailing
	}
	return elements, nil
}
