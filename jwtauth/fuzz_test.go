package jwtauth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcptest"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// fuzzSize is the size limit of the fuzzed reader: small, so that the memory
// one token may cost is easy to bound.
const fuzzSize = 4096

// FuzzReadToken looks for bytes that the reader accepts but others would read
// otherwise: in a whole token, and in header and payload, which the encoding
// would hide from a fuzzer.
func FuzzReadToken(f *testing.F) {
	for _, name := range []string{"alice", "bob"} {
		text, err := os.ReadFile("testdata/" + name + ".jwt")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(strings.TrimSpace(string(text)), "", "")
	}
	good := goodToken()
	p := strings.Split(good, ".")
	for _, raw := range []string{
		good, p[0] + "." + p[1] + ".", good + "." + p[2], "..", good + "=", good + "\n", strings.Repeat(".", 3000),
		mcptest.JSON(claims{"payload": p[1], "protected": p[0], "signature": p[2]}),
	} {
		f.Add(raw, trusted().Header(), goodPayload())
	}
	for header, payload := range map[string]string{
		`{"alg":"none"}`:                             `{}`,
		`{"alg":"RS256","ALG":"none","kid":"a"}`:     `{"exp":1e9,"Exp":2}`,
		`{"alg":"RS256","alg":"none"}`:               `{"sub":"a","sub":"b"}`,
		`{"\u0061lg":"ES256","typ":"application/x"}`: `{"aud":["a",{"b":null}]}`,
		`{"alg":"RS256","crit":["x"],"x":1}`:         `{"a":{"b":1,"b":2}}`,
		` {"alg":"RS256"} `:                          "\t{\"a\":9223372036854775808}\n",
		`{"alg":"RS256","kid":""}`:                   `{"x":"\ud800"}`,
		`{"alg":"RS256","kid":"\u212a\ud83d\ude00"}`: `{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`,
		`{"alg":"RS256","jwk":{"kty":"oct"}}`:        `{"x":[` + strings.Repeat("{},", 600) + `{}]}`,
	} {
		f.Add("", header, payload)
	}
	f.Fuzz(func(t *testing.T, raw, header, payload string) {
		checkReading(t, raw)
		checkReading(t, parts(header, payload, "signature"))
	})
}

func checkReading(t *testing.T, raw string) {
	t.Helper()
	var first *token
	var err error
	// a member of the payload costs a decoder and a map slot, however short
	// it is
	if used := allocated(func() { first, err = readToken(raw, fuzzSize) }); used > 1<<20 {
		t.Errorf("%d bytes took %d bytes of memory", len(raw), used)
	}
	second, err2 := readToken(raw, fuzzSize)
	if !errors.Is(err2, err) || !reflect.DeepEqual(first, second) {
		t.Fatalf("reading it again gives another result: %+v, %v, and %+v, %v", first, err, second, err2)
	}
	if err != nil {
		return
	}
	if len(raw) > fuzzSize {
		t.Fatal("larger than allowed")
	}
	for name, want := range first.claims {
		if got, ok := reqctx.TrimClaims(first.payload).Get(name); !ok || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: %q is read as %v, and later as %v", first.payload, name, want, got)
		}
	}
	checkLikeOthers(t, raw, first)
}

// allocated returns how many bytes of memory a call takes, all told.
func allocated(call func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	call()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// checkLikeOthers compares an accepted token with what other software sees.
func checkLikeOthers(t *testing.T, raw string, accepted *token) {
	t.Helper()
	pieces := strings.Split(raw, ".")
	if len(pieces) != 3 {
		t.Fatalf("%d parts", len(pieces))
	}
	decoded := make([][]byte, 3)
	for i, piece := range pieces {
		data, err := base64.RawURLEncoding.DecodeString(piece)
		if err != nil || len(data) == 0 || base64.RawURLEncoding.EncodeToString(data) != piece {
			t.Fatalf("part %d is not the base64url of anything: %v", i+1, err)
		}
		decoded[i] = data
	}
	// a map takes names exactly, as every other language does; the values of
	// a map are those of its last duplicates, so there may be none
	var header, payload map[string]any
	for i, into := range []*map[string]any{&header, &payload} {
		decoder := json.NewDecoder(bytes.NewReader(decoded[i]))
		decoder.UseNumber() // one that no float64 holds is a number all the same
		if err := decoder.Decode(into); err != nil || *into == nil {
			t.Fatalf("%q is not what others read as an object: %v", decoded[i], err)
		}
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			t.Fatalf("%q goes on behind the object: %v", decoded[i], err)
		}
	}
	if header["alg"] != accepted.alg || accepted.alg == "" {
		t.Errorf("alg %q, others read %v", accepted.alg, header["alg"])
	}
	kid, _ := header["kid"].(string)
	if kid != accepted.kid || accepted.hasKID != (kid != "") {
		t.Errorf("kid %q, others read %v", accepted.kid, header["kid"])
	}
	for _, name := range []string{"crit", "b64", "zip", "cty", "enc"} {
		if _, ok := header[name]; ok {
			t.Errorf("the header has %s", name)
		}
	}
	if len(payload) != len(accepted.claims) {
		t.Errorf("%d claims, others read %d", len(accepted.claims), len(payload))
	}
	for name, value := range payload {
		got, ok := accepted.claims[name]
		if text, isText := value.(string); !ok || isText && got != text {
			t.Errorf("claim %q is %v, others read %v", name, got, value)
		}
	}
}

// Memory is bounded for the most expensive tokens of full size, too.
func TestMemoryOfOneToken(t *testing.T) {
	fill := func(start, member, end string) string {
		return start + strings.Repeat(member, (12_000-len(start)-len(end))/len(member)) + end
	}
	numbered := func() string {
		var text strings.Builder
		text.WriteString(`{"a":0`)
		for i := 0; text.Len() < 11_900; i++ {
			text.WriteString(`,"` + string(rune('a'+i/676%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i%26)) + `":0`)
		}
		return text.String() + "}"
	}
	for name, payload := range map[string]string{
		"members":        numbered(),
		"empty objects":  fill(`{"x":[{}`, ",{}", "]}"),
		"small objects":  fill(`{"x":[{"":0}`, `,{"":0}`, "]}"),
		"empty lists":    fill(`{"x":[[]`, ",[]", "]}"),
		"numbers":        fill(`{"x":[0`, ",0", "]}"),
		"long integers":  fill(`{"x":[1`, ","+strings.Repeat("9", 300), "]}"),
		"empty strings":  fill(`{"x":[""`, `,""`, "]}"),
		"escapes":        fill(`{"x":"`, `\u0001`, `"}`),
		"one long text":  fill(`{"x":"`, "x", `"}`),
		"white space":    fill(`{`, " ", `}`),
		"depth to spare": fill(`{"x":[0`, ","+strings.Repeat("[", 100)+strings.Repeat("]", 100), "]}"),
	} {
		raw := parts(`{"alg":"RS256","kid":"k"}`, payload, "signature")
		used := allocated(func() {
			if _, err := readToken(raw, defaultMaxTokenSize); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		if used > 2<<20 {
			t.Errorf("%s: a token of %d bytes took %d bytes of memory", name, len(raw), used)
		}
	}
}
