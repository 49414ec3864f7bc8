package mcpwire

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// flatten reads doc as an object, and the objects in it, into a list of names
// and values with their places.
func flatten(r *ObjectReader, start func(doc []byte) error, doc []byte) (found []string, err error) {
	if err := start(doc); err != nil {
		return nil, err
	}
	var object func() error
	object = func() error {
		return r.members(func(name string) error {
			if r.dec.PeekKind() == '{' {
				found = append(found, name)
				return object()
			}
			value, err := r.value()
			if err != nil {
				return err
			}
			from, to := r.span(value)
			if !bytes.Equal(doc[from:to], value) {
				return fmt.Errorf("%q is not at %d", clip(string(value)), from)
			}
			found = append(found, name, string(value))
			return nil
		})
	}
	if err := object(); err != nil {
		return found, err
	}
	return found, r.end()
}

// sameCondensed wants a document read alike with and without its long texts,
// and returns how much of it was left.
func sameCondensed(t *testing.T, doc []byte) int {
	t.Helper()
	before := bytes.Clone(doc)
	var condensed, whole ObjectReader
	got, gotErr := flatten(&condensed, condensed.begin, doc)
	want, wantErr := flatten(&whole, func(doc []byte) error {
		whole.reset(doc)
		return CheckDepth(doc)
	}, doc)
	// a text in the place of a name, without a value, may look like another
	// name or no longer do so: it is refused for one reason or the other
	refusedTwice := errors.Is(gotErr, ErrDuplicate) && errors.Is(wantErr, ErrSyntax) || errors.Is(gotErr, ErrSyntax) && errors.Is(wantErr, ErrDuplicate)
	if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) && !refusedTwice {
		t.Fatalf("condensed: %v, whole: %v", gotErr, wantErr)
	}
	if gotErr == nil && !slices.Equal(got, want) {
		t.Fatalf("condensed: %.200q, whole: %.200q", got, want)
	}
	if !bytes.Equal(doc, before) {
		t.Fatal("the document has been changed")
	}
	if condensed.whole == nil {
		return len(doc)
	}
	return len(condensed.condensed.doc)
}

func TestCondense(t *testing.T) {
	long := strings.Repeat("x", 2*longText)
	file := strings.Repeat(`\tif a < \"b\" { // \u00fc \/ ü 模型`+"\u007f"+`\n`, condenseFrom/20)
	tests := map[string]struct {
		doc  string
		left int // of the document, 0: all
	}{
		"one text":               {`{"a":"` + file + `"}`, len(`{"a":""}`)},
		"between others":         {`{"s":"t","a" : "` + file + `" , "n":[1,{"b":"` + file + `"}],"z":null}`, len(`{"s":"t","a" : "" , "n":[1,{"b":""}],"z":null}`)},
		"white space":            {` {"a":"` + file + "\" } \r\n", len(` {"a":"" }    `) - 1},
		"two members":            {`{"a":"` + file + `","a":"` + file + `"}`, len(`{"a":"","a":""}`)},
		"small":                  {`{"a":"` + long + `"}`, 0},
		"less than half":         {`{"a":"` + long + `","b":[` + strings.Repeat("1,", condenseFrom) + `1]}`, 0},
		"names":                  {`{"` + file + `":1,"` + file + `" :2}`, 0},
		"twice the same name":    {`{"` + file + `":1,"b":2,"` + file + `":2}`, 0},
		"names that begin alike": {`{"` + file + `a":1,"` + file + `b":"` + file + file + file + `"}`, 2*len(file) + len(`{"a":1,"b":""}`)},
		"after many short ones":  {`{"n":[` + strings.Repeat(`"x",`, maxShortTexts) + `"` + file + `"]}`, 0},
		"after fewer":            {`{"n":[` + strings.Repeat(`"x",`, maxShortTexts-2) + `"` + file + `"]}`, len(`{"n":[""]}`) + 4*(maxShortTexts-2)},
		"outside the BMP":        {`{"a":"` + file + `\ud83d\ude00\uDBFF\uDFFF"}`, len(`{"a":""}`)},
		"beside the surrogates":  {`{"a":"` + file + `\ud7ff\uE000\uD000"}`, len(`{"a":""}`)},
		"lone surrogate":         {`{"a":"` + file + `\ud83d"}`, 0},
		"lone low surrogate":     {`{"a":"` + file + `\uDC00"}`, 0},
		"two high surrogates":    {`{"a":"` + file + `\ud83d\ud83d"}`, 0},
		"surrogates turned":      {`{"a":"` + file + `\ude00\ud83d"}`, 0},
		"surrogate and another":  {`{"a":"` + file + `\ud83d\u0041"}`, 0},
		"half of a pair":         {`{"a":"` + file + `\ud83d\ude`, 0},
		"bad escape":             {`{"a":"` + file + `\x"}`, 0},
		"short escape":           {`{"a":"` + file + `\u00`, 0},
		"escape of no hex":       {`{"a":"` + file + `\u00g0"}`, 0},
		"no end":                 {`{"a":"` + file, 0},
		"backslash at the end":   {`{"a":"` + file + `\`, 0},
		"quote escaped":          {`{"a":"` + file + `\"}`, 0},
		"control character":      {`{"a":"` + file + "\x1f" + `"}`, 0},
		"NUL":                    {`{"a":"` + file + "\x00" + `"}`, 0},
		"bad UTF-8":              {`{"a":"` + file + "\xff" + `"}`, 0},
		"half of a rune":         {`{"a":"` + file + "\xe6\xa8" + `"}`, 0},
		"surrogate in UTF-8":     {`{"a":"` + file + "\xed\xa0\x80" + `"}`, 0},
		"no comma":               {`{"a":"` + file + `" "b":1}`, len(`{"a":"" "b":1}`)},
		"no value":               {`{"a" "` + file + `"}`, len(`{"a" ""}`)},
		"in place of a name":     {`{"a":1,"` + file + `"}`, len(`{"a":1,""}`)},
		"behind the value":       {`{"a":"` + file + `"}"` + file + `"`, len(`{"a":""}""`)},
		"deep":                   {`{"a":"` + file + `","b":` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + `}`, 0},
		"brackets in texts":      {`{"a":"` + file + strings.Repeat("[", 2*MaxDepth) + `"}`, len(`{"a":""}`)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			want := test.left
			if want == 0 {
				want = len(test.doc)
			}
			if left := sameCondensed(t, []byte(test.doc)); left != want {
				t.Errorf("%d of %d bytes are left, want %d", left, len(test.doc), want)
			}
		})
	}
}

// A reader is used again, and keeps no more memory than its bounds.
func TestCondenseKeepsLittle(t *testing.T) {
	text := `"` + strings.Repeat("x", longText) + `",`
	many := []byte(`{"a":[` + strings.Repeat(text, 4*maxKeptCuts) + `1],"b":[` + strings.Repeat("1,", maxKeptCondensed) + `1]}`)
	var r ObjectReader
	if err := r.begin(many); err != nil || r.whole == nil {
		t.Fatalf("not condensed: %v", err)
	}
	c := &r.condensed
	if cap(c.doc) <= maxKeptCondensed || cap(c.cuts) <= maxKeptCuts {
		t.Fatalf("%d bytes and %d cuts are below the bounds", cap(c.doc), cap(c.cuts))
	}
	if err := r.begin([]byte(`{}`)); err != nil || r.whole != nil || cap(c.doc) != 0 || cap(c.cuts) != 0 {
		t.Errorf("%d bytes and %d cuts are kept (%v)", cap(c.doc), cap(c.cuts), err)
	}
}

// Every byte, wherever it is among the eight that are looked at together.
func TestTextEndBytes(t *testing.T) {
	for place := range 20 {
		for b := range 256 {
			doc := []byte(`"` + strings.Repeat("x", 30) + `"`)
			doc[1+place] = byte(b)
			end := textEnd(doc, 1)
			want := len(doc) - 1
			switch {
			case b == '"':
				want = 1 + place
			case !jsontext.Value(doc).IsValid():
				want = -1
			}
			if end != want {
				t.Errorf("%q: %d, want %d", doc, end, want)
			}
		}
	}
}

// textEnd finds the texts that are valid for jsontext, and no others.
func FuzzTextEnd(f *testing.F) {
	for _, seed := range []string{
		`plain"`, `\"\\\/\b\f\n\r\t\u00e4"x`, `\ud83d\ude00"`, `\uDBFF\uDfff\ud800"`, `\ud800\ud800"`, `\udc00"`, `\uD7ff\ue000"`, "\u00fc模型😀\"", "\x7f\u0080\"", `\u12`, `\`, "\xff\"",
		"1234567\"", "12345678\"", `123456\"8"`, "a\x1fb\"", "\x80\"", `\u00G0"`, `!"`, ` "`, "\x01 \"",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		doc := append([]byte{'"'}, content...)
		end := textEnd(doc, 1)
		if end >= 0 {
			text := jsontext.Value(doc[:end+1])
			if !text.IsValid() {
				t.Fatalf("%q is not valid", text)
			}
			return
		}
		dec := jsontext.NewDecoder(bytes.NewBuffer(doc))
		if text, err := dec.ReadValue(); err == nil {
			t.Fatalf("%q is valid", text)
		}
	})
}

// Documents are read alike with and without their long texts.
func FuzzCondense(f *testing.F) {
	for _, seed := range []string{
		`{"a":"~"}`, `{"a":"~","a":"~"}`, `{"~":1,"~":2}`, `{"a":["~","x",{"~":"~"}]}"~"`, `{"a":"~\ud83d\ude00"}`, `{"a":~}`, `"~`, `{"a":"\"~\\"}`,
		`{"~":"~","b":{"c":"~" , "d":"~"}} `, `{"a":"~\"`, `{"a"~:"~"}`, `{"":0,"~"`, `{"~":0,"~"~"`,
	} {
		f.Add([]byte(seed), `\"x ü`)
	}
	f.Fuzz(func(t *testing.T, doc []byte, filling string) {
		if len(doc) > 1<<10 || len(filling) > 64 || filling == "" {
			return
		}
		long := bytes.Repeat([]byte(filling), condenseFrom/len(filling)+1)
		sameCondensed(t, bytes.ReplaceAll(doc, []byte{'~'}, long))
	})
}
