package mcpwire

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

// encodeHeader writes a header value as the official Go SDK does (v1.8.0,
// mcp/streamable_headers.go).
func encodeHeader(text string) string {
	plain := text == "" || !strings.ContainsAny(text[:1]+text[len(text)-1:], " \t")
	for _, c := range text {
		plain = plain && c >= ' ' && c <= '~'
	}
	if plain && (!strings.HasPrefix(text, "=?base64?") || !strings.HasSuffix(text, "?=")) {
		return text
	}
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(text)) + "?="
}

func TestDecodeHeader(t *testing.T) {
	for value, want := range map[string]string{
		"":                               "",
		"read_file":                      "read_file",
		"a b\tc":                         "a b\tc",
		"file:///a?b=c#d":                "file:///a?b=c#d",
		"=?base64?5pel5pys6Kqe?=":        "日本語",
		"=?base64?IGE=?=":                " a",
		"=?base64?bGluZTENCmxpbmUy?=":    "line1\r\nline2",
		"=?base64??=":                    "",
		"=?base64?PT9iYXNlNjQ/Pz0=?=":    "=?base64??=",
		"=?base64?AA==?=":                "\x00",
		"=?BASE64?5pel?=":                "=?BASE64?5pel?=",
		"=?Base64?5pel?=":                "=?Base64?5pel?=",
		"=?base64?5pel":                  "=?base64?5pel",
		"=?base64?5pel?= ":               "=?base64?5pel?= ",
		" =?base64?5pel?=":               " =?base64?5pel?=",
		"=?base64?=":                     "=?base64?=",
		"=?utf-8?B?5pel?=":               "=?utf-8?B?5pel?=",
		"x=?base64?5pel?=":               "x=?base64?5pel?=",
		"=?base64?Pz0=?=":                "?=",
		"=?base64?77u/YQ==?=":            "\ufeffa",
		"=?base64?JTI1?=":                "%25",
		"%E6%97%A5":                      "%E6%97%A5",
		"~ all that can be printed !\"#": "~ all that can be printed !\"#",
	} {
		got, err := DecodeHeader(value)
		if err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", value, got, err, want)
		}
	}
}

func TestDecodeHeaderRefuses(t *testing.T) {
	for name, value := range map[string]string{
		"another alphabet":           "=?base64?5pel-_8=?=",
		"no padding":                 "=?base64?YQ?=",
		"half the padding":           "=?base64?YQ=?=",
		"too much padding":           "=?base64?YWFh=?=",
		"padding inside":             "=?base64?YQ==YQ==?=",
		"bits that are left over":    "=?base64?YR==?=",
		"a blank inside":             "=?base64?YW Fh?=",
		"a line end inside":          "=?base64?YW\nFh?=",
		"another line end":           "=?base64?YW\rFh?=",
		"bytes that are no UTF-8":    "=?base64?/w==?=",
		"half a character":           "=?base64?5pc=?=",
		"a surrogate":                "=?base64?7aCA?=",
		"a byte that is not ASCII":   "caf\xe9",
		"UTF-8 without base64":       "日本語",
		"a NUL":                      "a\x00b",
		"DEL":                        "a\x7f",
		"a line end":                 "a\nb",
		"an escape":                  "a\x1bb",
		"not ASCII beside a marker":  "=?base64?YQ==?=\xff",
		"not ASCII inside of base64": "=?base64?Y\xff==?=",
	} {
		if got, err := DecodeHeader(value); err == nil {
			t.Errorf("%s: %q is %q", name, value, got)
		}
	}
}

func FuzzHeader(f *testing.F) {
	for _, text := range []string{
		"", "read_file", " a", "a ", "\ta", "日本語", "=?base64?literal?=", "=?base64??=", "=?base64?", "a\r\nb", "\x00", "~", "\x7f",
		"=?BASE64?YQ==?=", "caf\u00e9", "\xff", "=?base64?YR==?=", "file:///a b?c",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		value := encodeHeader(text)
		got, err := DecodeHeader(value)
		if utf8.ValidString(text) && (err != nil || got != text) {
			t.Fatalf("%q was sent as %q and read as %q, %v", text, value, got, err)
		}
		if !utf8.ValidString(text) && err == nil {
			t.Fatalf("%q is no name, but was sent as %q and read as %q", text, value, got)
		}
		// any value is refused, or stands for one text in one way
		if got, err := DecodeHeader(text); err == nil {
			if !utf8.ValidString(got) {
				t.Fatalf("%q was read as %q", text, got)
			}
			if got != text && text != base64Prefix+base64.StdEncoding.EncodeToString([]byte(got))+base64Suffix {
				t.Fatalf("%q was read as %q", text, got)
			}
		}
	})
}

// modernCall is a tools/call of version 2026-07-28.
const modernCall = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","_meta":{` +
	`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`

// headers makes a header of names and values in turn.
func headers(pairs ...string) http.Header {
	h := make(http.Header)
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestCheckHeaders(t *testing.T) {
	const (
		version = "MCP-Protocol-Version"
		method  = "Mcp-Method"
		name    = "Mcp-Name"
		modern  = "2026-07-28"
	)
	legacyCall := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read"}}`
	withoutMeta := func(member string) string {
		return strings.Replace(modernCall, `"`+member+`":`, `"x":`, 1)
	}
	withMethod := func(method, params string) string {
		message := strings.Replace(modernCall, "tools/call", method, 1)
		return strings.Replace(message, `"name":"read",`, params, 1)
	}
	full := []string{version, modern, method, "tools/call", name, "read"}
	cases := map[string]struct {
		message string
		header  http.Header
		code    int
	}{
		"modern":                      {modernCall, headers(full...), 0},
		"modern, base64":              {modernCall, headers(version, modern, method, "tools/call", name, "=?base64?cmVhZA==?="), 0},
		"modern, method as base64":    {modernCall, headers(version, modern, method, "=?base64?dG9vbHMvY2FsbA==?=", name, "read"), 0},
		"no version":                  {modernCall, headers(method, "tools/call", name, "read"), CodeHeaderMismatch},
		"no method":                   {modernCall, headers(version, modern, name, "read"), CodeHeaderMismatch},
		"no name":                     {modernCall, headers(version, modern, method, "tools/call"), CodeHeaderMismatch},
		"another method":              {modernCall, headers(version, modern, method, "tools/list", name, "read"), CodeHeaderMismatch},
		"a method of another case":    {modernCall, headers(version, modern, method, "Tools/call", name, "read"), CodeHeaderMismatch},
		"an empty method":             {modernCall, headers(version, modern, method, "", name, "read"), CodeHeaderMismatch},
		"another name":                {modernCall, headers(version, modern, method, "tools/call", name, "write"), CodeHeaderMismatch},
		"a name of another case":      {modernCall, headers(version, modern, method, "tools/call", name, "Read"), CodeHeaderMismatch},
		"an empty name":               {modernCall, headers(version, modern, method, "tools/call", name, ""), CodeHeaderMismatch},
		"a name with a byte of more":  {modernCall, headers(version, modern, method, "tools/call", name, "read\xff"), CodeHeaderMismatch},
		"markers of another case":     {modernCall, headers(version, modern, method, "tools/call", name, "=?BASE64?cmVhZA==?="), CodeHeaderMismatch},
		"base64 that is none":         {modernCall, headers(version, modern, method, "tools/call", name, "=?base64?cmVhZA?="), CodeHeaderMismatch},
		"base64 of no UTF-8":          {modernCall, headers(version, modern, method, "tools/call", name, "=?base64?/w==?="), CodeHeaderMismatch},
		"two versions":                {modernCall, headers(append(full, version, modern)...), CodeHeaderMismatch},
		"two methods":                 {modernCall, headers(append(full, method, "tools/call")...), CodeHeaderMismatch},
		"two names":                   {modernCall, headers(append(full, name, "read")...), CodeHeaderMismatch},
		"a legacy version in front":   {modernCall, headers(version, "2025-11-25", method, "tools/call", name, "read"), CodeHeaderMismatch},
		"a modern version in front":   {legacyCall, headers(full...), CodeInvalidParams},
		"no version in _meta":         {withoutMeta(metaVersion), headers(full...), CodeInvalidParams},
		"no capabilities":             {withoutMeta(metaCapabilities), headers(full...), CodeInvalidParams},
		"a version to come":           {strings.Replace(modernCall, modern, "2027-01-01", 1), headers(version, "2027-01-01", method, "tools/call", name, "read"), CodeUnsupportedVersion},
		"a version of no date":        {strings.Replace(modernCall, modern, "draft", 1), headers(version, "draft", method, "tools/call", name, "read"), CodeUnsupportedVersion},
		"a prompt":                    {withMethod("prompts/get", `"name":"p",`), headers(version, modern, method, "prompts/get", name, "p"), 0},
		"a prompt without its name":   {withMethod("prompts/get", `"name":"p",`), headers(version, modern, method, "prompts/get"), CodeHeaderMismatch},
		"a resource":                  {withMethod("resources/read", `"uri":"file:///a",`), headers(version, modern, method, "resources/read", name, "file:///a"), 0},
		"a resource by its name":      {withMethod("resources/read", `"uri":"file:///a","name":"n",`), headers(version, modern, method, "resources/read", name, "n"), CodeHeaderMismatch},
		"a task":                      {withMethod("tasks/get", `"taskId":"7",`), headers(version, modern, method, "tasks/get", name, "7"), 0},
		"a task that is updated":      {withMethod("tasks/update", `"taskId":"7",`), headers(version, modern, method, "tasks/update", name, "8"), CodeHeaderMismatch},
		"a task that is cancelled":    {withMethod("tasks/cancel", `"taskId":"7",`), headers(version, modern, method, "tasks/cancel"), CodeHeaderMismatch},
		"a list needs no name":        {withMethod("tools/list", ``), headers(version, modern, method, "tools/list"), 0},
		"a list with a name":          {withMethod("tools/list", ``), headers(version, modern, method, "tools/list", name, "read"), 0},
		"a list without its method":   {withMethod("tools/list", ``), headers(version, modern), CodeHeaderMismatch},
		"a notification":              {strings.Replace(withMethod("notifications/cancelled", ``), `"id":1,`, ``, 1), headers(version, modern), 0},
		"one that says another":       {strings.Replace(withMethod("notifications/cancelled", ``), `"id":1,`, ``, 1), headers(version, modern, method, "tools/call"), CodeHeaderMismatch},
		"legacy":                      {legacyCall, headers(version, "2025-06-18"), 0},
		"legacy without any":          {legacyCall, headers(), 0},
		"legacy with mirrors":         {legacyCall, headers(version, "2025-06-18", method, "tools/call", name, "read"), 0},
		"legacy, another method":      {legacyCall, headers(version, "2025-06-18", method, "tools/list"), CodeHeaderMismatch},
		"legacy, another name":        {legacyCall, headers(name, "write"), CodeHeaderMismatch},
		"legacy, two methods":         {legacyCall, headers(method, "tools/call", method, "tools/call"), CodeHeaderMismatch},
		"legacy, two names":           {legacyCall, headers(name, "read", name, "write"), CodeHeaderMismatch},
		"legacy, a name for none":     {strings.Replace(legacyCall, `"read"`, `""`, 1), headers(name, "write"), CodeHeaderMismatch},
		"legacy, two versions":        {legacyCall, headers(version, "2025-06-18", version, "2025-06-18"), CodeHeaderMismatch},
		"legacy, an unknown version":  {legacyCall, headers(version, "2025-06-19"), CodeUnsupportedVersion},
		"legacy, an empty version":    {legacyCall, headers(version, ""), CodeUnsupportedVersion},
		"legacy, an older version":    {legacyCall, headers(version, "1.0"), CodeUnsupportedVersion},
		"a response has no method":    {`{"jsonrpc":"2.0","id":1,"result":{}}`, headers(version, "2025-06-18"), 0},
		"a response that says it has": {`{"jsonrpc":"2.0","id":1,"result":{}}`, headers(method, "tools/call"), CodeHeaderMismatch},
		"a method without a name":     {`{"jsonrpc":"2.0","id":1,"method":"ping"}`, headers(name, "read"), 0},
	}
	for title, c := range cases {
		t.Run(title, func(t *testing.T) {
			m, err := Read([]byte(c.message))
			if err != nil {
				t.Fatal(err)
			}
			got := CheckHeaders(c.header, m)
			if c.code == 0 {
				if got != nil {
					t.Fatalf("refused: %+v", got)
				}
				return
			}
			if got == nil || got.Code != c.code || got.Status != http.StatusBadRequest || got.Message == "" {
				t.Fatalf("got %+v, want %d", got, c.code)
			}
			if c.code == CodeUnsupportedVersion {
				requested := c.header.Get(version)
				want := fmt.Sprintf(`{"supported":["2024-11-05","2025-03-26","2025-06-18","2025-11-25","2026-07-28"],"requested":%q}`, requested)
				if string(got.Data) != want {
					t.Errorf("data %s, want %s", got.Data, want)
				}
			} else if got.Data != nil {
				t.Errorf("data %s", got.Data)
			}
		})
	}
}
