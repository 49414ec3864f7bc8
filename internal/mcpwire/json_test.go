package mcpwire

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// Integers that fit 64 bits are int64, other numbers float64, and what
// neither holds is no number at all: 2^53+1 must not be taken for 2^53.
func TestDecodeNumbers(t *testing.T) {
	tests := map[string]any{
		"0":                           int64(0),
		"-0":                          int64(0),
		"1":                           int64(1),
		"-1":                          int64(-1),
		"9007199254740993":            int64(1<<53 + 1),
		"-9007199254740993":           int64(-1<<53 - 1),
		"9223372036854775807":         int64(math.MaxInt64),
		"-9223372036854775808":        int64(math.MinInt64),
		"9223372036854775808":         float64(1 << 63), // exact, although no int64
		"18446744073709551616":        float64(1 << 64),
		"-18446744073709551616":       float64(-1 << 64),
		"9223372036854775809":         InexactNumber("9223372036854775809"),
		"18446744073709551615":        InexactNumber("18446744073709551615"),
		"18446744073709551617":        InexactNumber("18446744073709551617"),
		"-18446744073709551617":       InexactNumber("-18446744073709551617"),
		"0.1":                         0.1,
		"-0.5":                        -0.5,
		"1.0":                         1.0,
		"1e2":                         100.0,
		"1E+2":                        100.0,
		"1.5e-3":                      0.0015,
		"0.0":                         0.0,
		"0e5":                         0.0,
		"0.000e-999":                  0.0,
		"1e308":                       1e308,
		"1e400":                       InexactNumber("1e400"),
		"-1e400":                      InexactNumber("-1e400"),
		"1e999999999999":              InexactNumber("1e999999999999"),
		"1e-400":                      InexactNumber("1e-400"), // not zero
		"0.0000001e-400":              InexactNumber("0.0000001e-400"),
		"5e-324":                      5e-324,
		"1" + strings.Repeat("0", 22): 1e22, // the largest power of ten that is exact
	}
	for text, want := range tests {
		got, err := Decode(jsontext.Value(text))
		if err != nil || got != want {
			t.Errorf("%s: %T(%v), %v, want %T(%v)", text, got, got, err, want, want)
		}
	}
	for _, text := range []string{"1" + strings.Repeat("0", 308), strings.Repeat("9", 310), strings.Repeat("7", 1<<20)} {
		if got, _ := Decode(jsontext.Value(text)); got != InexactNumber(text) {
			t.Errorf("%d digits became %T", len(text), got)
		}
	}
}

func TestDecode(t *testing.T) {
	got, err := Decode(jsontext.Value(` {"a":[null,true,false,"\u0061\n",{"":1}],"\u0062":{},"Name":2,"name":[]} `))
	want := map[string]any{
		"a":    []any{nil, true, false, "a\n", map[string]any{"": int64(1)}},
		"b":    map[string]any{},
		"Name": int64(2),
		"name": []any{},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, %v", got, err)
	}
	for _, text := range []string{"", "[", `{"a"`, `{"a":`, "[1", "[1,]", `{"a":1,"a":2}`, `{"a":1,}`, "nul", `"a`, "}", `{1:2}`, "[}", "\xff"} {
		if got, err := Decode(jsontext.Value(text)); err == nil {
			t.Errorf("%q became %#v", text, got)
		}
	}
}

func TestObject(t *testing.T) {
	var seen []string
	collect := func(name string, value jsontext.Value) error {
		seen = append(seen, name+"="+string(value))
		return nil
	}
	if err := Object([]byte(` {"b": [1, 2] ,"\u0061":"\u0062","":{} } `), collect); err != nil {
		t.Fatal(err)
	}
	// values are raw and in order, names are unquoted
	if want := []string{"b=[1, 2]", `a="\u0062"`, "={}"}; !reflect.DeepEqual(seen, want) {
		t.Errorf("seen %q, want %q", seen, want)
	}

	ignore := func(string, jsontext.Value) error { return nil }
	tests := map[string]error{
		"":                                  ErrSyntax,
		"[]":                                ErrSyntax,
		"1":                                 ErrSyntax,
		"{":                                 ErrSyntax,
		`{"a":1`:                            ErrSyntax,
		`{"a":1]`:                           ErrSyntax,
		`{"a" 1}`:                           ErrSyntax,
		`{"a":1 "b":2}`:                     ErrSyntax,
		`{"a":1,"a":2}`:                     ErrDuplicate,
		`{"x":{"a":1,"\u0061":2}}`:          ErrDuplicate,
		`{} {}`:                             ErrTrailing,
		`{}}`:                               ErrTrailing,
		strings.Repeat(`{"a":`, MaxDepth+1): ErrTooDeep,
	}
	for doc, want := range tests {
		if err := Object([]byte(doc), ignore); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", clip(doc), err, want)
		}
	}

	// what the caller finds wrong stops the reading at once
	stop, calls := errors.New("stop"), 0
	err := Object([]byte(`{"a":1,"b":2}`), func(string, jsontext.Value) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%v after %d members", err, calls)
	}
}

// A reader that was left in the middle of a broken document starts anew.
func TestObjectReaderAgain(t *testing.T) {
	var r ObjectReader
	for _, doc := range []string{`{"a":[{`, `{"a":1,"a":2}`, `{"a":`, `[]`, ``, `{"a":1}}`} {
		if err := r.Read([]byte(doc), func(string, jsontext.Value) error { return nil }); err == nil {
			t.Fatalf("%s was accepted", doc)
		}
		var names []string
		err := r.Read([]byte(`{"a":1,"b":{"a":2}}`), func(name string, _ jsontext.Value) error {
			names = append(names, name)
			return nil
		})
		if err != nil || strings.Join(names, "") != "ab" {
			t.Errorf("after %s: %q, %v", doc, names, err)
		}
	}
}

func TestCheckDepth(t *testing.T) {
	tests := map[string]bool{ // whether it is too deep
		strings.Repeat("[", MaxDepth):                                        false,
		strings.Repeat("[", MaxDepth+1):                                      true,
		strings.Repeat("[]", MaxDepth+1):                                     false,
		`"` + strings.Repeat("[", MaxDepth+1):                                false,
		`"\"` + strings.Repeat("[", MaxDepth+1):                              false,
		`"\\"` + strings.Repeat("[", MaxDepth+1):                             true,
		`"\\\"` + strings.Repeat("{", MaxDepth+1):                            false,
		`"` + strings.Repeat("{", 9) + `"` + strings.Repeat("[", MaxDepth+1): true,
		// closing more than was opened must not make room
		strings.Repeat("]", 10) + strings.Repeat("[", MaxDepth+11): true,
	}
	for doc, want := range tests {
		if err := CheckDepth([]byte(doc)); errors.Is(err, ErrTooDeep) != want {
			t.Errorf("%.20q (%d bytes): %v", doc, len(doc), err)
		}
	}
}

func TestString(t *testing.T) {
	for raw, want := range map[string]string{`"a"`: "a", `"\u0061\/\n"`: "a/\n", `""`: "", `"\ud83d\ude00"`: "😀"} {
		if got, ok := String(jsontext.Value(raw)); !ok || got != want {
			t.Errorf("%s: %q, %v", raw, got, ok)
		}
	}
	for _, raw := range []string{"", "1", "null", "true", "[]", "{}", `"`, `"\ud800"`, "\"\xff\""} {
		if got, ok := String(jsontext.Value(raw)); ok {
			t.Errorf("%q: %q", raw, got)
		}
	}
}

// eachMember finds in an object that is valid what Object finds.
func FuzzEachMember(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1}`, ` { "a" : [1,{"b":"}"}] , "c":"\"," } `, `{"\u0061":{"x":"\\"},"b":-1.5e3,"c":true,"d":null}`, "{\"a\":\n\t[]\r\n}", `{"a":"\\\\\"","b":2}`,
	} {
		f.Add([]byte(seed))
	}
	type pair struct{ name, value string }
	f.Fuzz(func(t *testing.T, doc []byte) {
		var want []pair
		if Object(doc, func(name string, value jsontext.Value) error {
			want = append(want, pair{name, string(value)})
			return nil
		}) != nil {
			return // whatever it does then, nobody asks it
		}
		trimmed := jsontext.Value(bytes.TrimLeft(doc, " \t\r\n"))
		var got []pair
		if err := eachMember(trimmed, func(name, value jsontext.Value) error {
			text, _ := String(name)
			got = append(got, pair{text, string(value)})
			if found, ok := Member(trimmed, text); !ok || string(found) != string(value) {
				t.Fatalf("%s: the member %q is %q %t, want %q", doc, text, found, ok, value)
			}
			return nil
		}); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%s: %v %q, want %q", doc, err, got, want)
		}
	})
}
